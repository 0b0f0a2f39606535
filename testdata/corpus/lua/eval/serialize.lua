-- A serializer and a recursive-descent parser of the same format.
local function serialize(value)
  local kind = type(value)
  if kind == "table" then
    local parts = {}
    if #value > 0 then
      for i, item in ipairs(value) do parts[i] = serialize(item) end
      return "[" .. table.concat(parts, ",") .. "]"
    end
    local keys = {}
    for key in pairs(value) do keys[#keys + 1] = key end
    table.sort(keys)
    for i, key in ipairs(keys) do parts[i] = string.format("%q:%s", key, serialize(value[key])) end
    return "{" .. table.concat(parts, ",") .. "}"
  elseif kind == "string" then return string.format("%q", value)
  else return tostring(value) end
end
local function parse(text)
  local at = 1
  local value
  local function expect(char)
    if text:sub(at, at) ~= char then error(("expected %s at %d"):format(char, at)) end
    at = at + 1
  end
  function value()
    local char = text:sub(at, at)
    if char == "[" then
      local list = {}
      expect("[")
      while text:sub(at, at) ~= "]" do
        list[#list + 1] = value()
        if text:sub(at, at) == "," then expect(",") end
      end
      expect("]")
      return list
    elseif char == "{" then
      local map = {}
      expect("{")
      while text:sub(at, at) ~= "}" do
        local key = value()
        expect(":")
        map[key] = value()
        if text:sub(at, at) == "," then expect(",") end
      end
      expect("}")
      return map
    elseif char == '"' then
      local body = text:match('^"([^"]*)"', at)
      at = at + #body + 2
      return body
    end
    local token = text:match("^[%w%.%-]+", at)
    at = at + #token
    if token == "true" or token == "false" then return token == "true" end
    return tonumber(token)
  end
  return value()
end
local function build(depth, seed)
  if depth == 0 then return seed % 2 == 0 and seed or "s" .. seed end
  local node = { name = "n" .. seed, ok = seed % 3 == 0, half = seed / 2, list = {} }
  for i = 1, 5 do node.list[i] = build(depth - 1, seed * 5 + i) end
  return node
end
local text = serialize(build(6, 1))
local again = serialize(parse(text))
local hash = 0
for i = 1, #text do hash = (hash * 33 ~ text:byte(i)) & 0xffffffffffff end
print("serialize", #text, text == again, hash)
print("refused", pcall(parse, '[1,{"a"]'))

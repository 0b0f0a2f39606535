-- Generators, error handling through coroutines and pcall, closing values.
local function permutations(items, count)
  count = count or #items
  if count <= 1 then
    coroutine.yield(items)
  else
    for i = 1, count do
      items[count], items[i] = items[i], items[count]
      permutations(items, count - 1)
      items[count], items[i] = items[i], items[count]
    end
  end
end
local hash, number = 0, 0
for items in coroutine.wrap(function() permutations({ 1, 2, 3, 4, 5, 6, 7, 8 }) end) do
  number = number + 1
  hash = (hash * 31 + items[1] * 7 + items[4]) & 0xffffffff
end
print("permutations", number, hash)

local closed = {}
local function failing(depth)
  local resource <close> = setmetatable({}, { __close = function(_, problem) closed[#closed + 1] = depth .. (problem and "!" or ".") end })
  if depth == 0 then error("deep", 0) end
  failing(depth - 1)
end
print("close", pcall(failing, 5), table.concat(closed, " "))
print("handler", xpcall(failing, function(message) return "handled " .. message end, 2))
local thread = coroutine.create(function() local x = nil; return x.field end)
local ok, message = coroutine.resume(thread)
print("thread", ok, coroutine.status(thread), (message:gsub("^.-:%d+: ", "")))
local function overflow() return 1 + overflow() end
local fine, why = pcall(overflow)
print("overflow", fine, why:match("stack overflow"))

-- Patterns, string.format, concatenation.
local words = {}
local seed = 42
for i = 1, 6000 do
  seed = (seed * 1103515245 + 12345) % 2147483648
  words[i] = string.format("w%03x", seed % 700)
end
local text = table.concat(words, " ")
local counts = {}
for word in text:gmatch("%w+") do counts[word] = (counts[word] or 0) + 1 end
local keys = {}
for word in pairs(counts) do keys[#keys + 1] = word end
table.sort(keys)
local replaced, hits = text:gsub("w(%x)(%x)(%x)", "%3%2%1")
print("text", #keys, counts[keys[1]], hits, #replaced, replaced:sub(1, 30))

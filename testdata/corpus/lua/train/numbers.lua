-- Integer and float loops, arrays.
local function sieve(limit)
  local composite, found = {}, 0
  for i = 2, limit do
    if not composite[i] then
      found = found + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return found
end
local sum = 0.0
for i = 1, 300000 do sum = sum + (i % 7) / (1 + i % 13) end
print("numbers", sieve(120000), string.format("%.6f", sum))

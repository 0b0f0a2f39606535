-- Floats, integers, bit operations, the math and utf8 libraries.
local function mandelbrot(size)
  local inside = 0
  for y = 0, size - 1 do
    for x = 0, size - 1 do
      local cr, ci, zr, zi, steps = 3.0 * x / size - 2.0, 2.0 * y / size - 1.0, 0.0, 0.0, 0
      while steps < 50 and zr * zr + zi * zi < 4.0 do
        zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
        steps = steps + 1
      end
      if steps == 50 then inside = inside + 1 end
    end
  end
  return inside
end
local function multiply(a, b, n)
  local result = {}
  for i = 1, n do
    local row = {}
    for j = 1, n do
      local sum = 0
      for k = 1, n do sum = sum + a[i][k] * b[k][j] end
      row[j] = sum
    end
    result[i] = row
  end
  return result
end
local matrix = {}
for i = 1, 60 do
  matrix[i] = {}
  for j = 1, 60 do matrix[i][j] = (i * j) % 10 end
end
local product = multiply(multiply(matrix, matrix, 60), matrix, 60)
print("mandelbrot", mandelbrot(300))
print("matrix", product[1][1], product[30][7], product[60][60])
local bits = 0x9E3779B97F4A7C15
for i = 1, 400000 do
  bits = bits ~ (bits << 13)
  bits = bits ~ (bits >> 7)
  bits = bits ~ (bits << 17)
end
print("bits", string.format("%016x", bits))
print("limits", math.maxinteger + 1 == math.mininteger, 7 // -2, -7 % 3, 7.5 // 2, pcall(function() return 1 // 0 end))
print("floor", math.floor(-3.5), math.ceil(3.2), string.format("%.3f", math.fmod(-7.5, 2)), math.type(2^53))
print("utf8", utf8.char(0x41, 0xe9, 0x20ac, 0x1f600), utf8.len("\u{41}\u{e9}\u{20ac}"))
local chunk = load("local a, b = ... return a * b, select('#', ...)")
print("load", chunk(6, 7, 8))
print("syntax", load("x = = 1"))

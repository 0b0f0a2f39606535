-- Tables with metatables, closures, string building.
local Account = {}
Account.__index = Account
function Account.new(owner) return setmetatable({ owner = owner, balance = 0, log = {} }, Account) end
function Account:deposit(amount)
  if amount <= 0 then error({ code = "amount", amount = amount }) end
  self.balance = self.balance + amount
  self.log[#self.log + 1] = amount
end
local accounts, refused = {}, 0
for i = 1, 400 do
  local account = Account.new("owner" .. i)
  for j = 1, 120 do
    local ok, problem = pcall(account.deposit, account, (i * j) % 11)
    if not ok then refused = refused + (problem.code == "amount" and 1 or 1000) end
  end
  accounts[i] = account
end
table.sort(accounts, function(a, b)
  if a.balance ~= b.balance then return a.balance > b.balance end
  return a.owner < b.owner
end)
print("objects", accounts[1].owner, accounts[1].balance, refused)

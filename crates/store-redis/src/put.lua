-- KEYS: this gateway's requests. ARGV: epoch, 1 where this makes the gateway known, turn of debts or '', then operations:
--   p number phase input output money count key…      a request as it is: phase 0 held, 1 ended, 2 gone
--   t key name total                                  what the ledger says of an account's name
--   s key day month count (name ever day month)…      the same, with the sums of periods
--   d key requests input output                       what was used without being held
-- Answers -1 to a stranger, else the numbers of requests that hold more than may be lent.
local requests, epoch, complete, turned = KEYS[1], ARGV[1], ARGV[2], ARGV[3]

local whole = redis.call('HGET', requests, 'e') == epoch
if not whole and complete == '0' then
  -- What the ledger says is true whoever says it.
  if ARGV[4] and ARGV[4] ~= 's' and ARGV[4] ~= 't' then return { -1 } end
end

local owes = false
if turned ~= '' then
  local last = tonumber(redis.call('HGET', requests, 'd') or '0')
  if tonumber(turned) > last then
    owes = true
    redis.call('HSET', requests, 'd', turned)
  end
end

local overdrawn = {}

-- Whether an account holds no more than it may lend: another bucket of each rate, and a tenth of its budget.
local function lends(a)
  for field in pairs(a.has) do
    if string.sub(field, 1, 1) == 'r' then
      local level, _, limit, ticks = rate(a, field)
      local held = weight(string.sub(field, 2, 2), 0, get(a, 'I'), get(a, 'O'))
      if level + held * ticks > 2 * limit * ticks then return false end
    end
  end
  local per, budget = get(a, 'P'), get(a, 'L')
  if per > 0 then
    local sums = { spent(a) }
    if sums[per] + get(a, 'H') > budget + math.floor(budget / 10) then return false end
  end
  return true
end

local function put(number, phase, amount, keys)
  local text = redis.call('HGET', requests, number)
  local old = text and cmsgpack.unpack(text)
  local input, output, money = amount[1], amount[2], amount[3]
  if not old then
    if phase == 2 then return end
    for _, key in ipairs(keys) do
      local a = account(key)
      if phase == 0 then
        add(a, 'n', 1)
        add(a, 'I', input)
        add(a, 'O', output)
        add(a, 'H', money)
        pour(a, 1, 0, 0)
      else
        add(a, 'U', money)
        pour(a, 1, input, output)
      end
    end
    old = { phase, 0, 0, 0 }
    for _, key in ipairs(keys) do old[#old + 1] = key end
  elseif old[1] == 0 then
    for i = 5, #old do
      local a = account(old[i])
      turn(a)
      if phase == 0 then
        add(a, 'I', input - old[2])
        add(a, 'O', output - old[3])
        add(a, 'H', money - old[4])
        if not lends(a) then overdrawn[#overdrawn + 1] = tonumber(number) end
      else
        release(a, old)
        pour(a, 0, input, output)
        if phase == 1 then add(a, 'U', money) end
      end
    end
  else
    if phase ~= 2 then return end
    for i = 5, #old do add(account(old[i]), 'U', -old[4]) end
  end
  if phase == 2 then
    redis.call('HDEL', requests, number)
  else
    old[1], old[2], old[3], old[4] = phase, input, output, money
    redis.call('HSET', requests, number, cmsgpack.pack(old))
  end
end

local function seed(a, day, month, names)
  local before_day, before_month = 0, 0
  for _, name in ipairs(names) do
    total(a, name[1], name[2])
    before_day = before_day + name[2] - name[3]
    before_month = before_month + name[2] - name[4]
  end
  if not a.has.D then
    set(a, 'D', day)
    set(a, 'M', month)
    put_text(a, 'T', num(get(a, 'T')))
  end
  -- What was spent before today does not change any more.
  if day == get(a, 'D') then set(a, 'B', before_day) end
  if month == get(a, 'M') then set(a, 'C', before_month) end
  turn(a)
end

local at = 4
while at <= #ARGV do
  local kind = ARGV[at]
  if kind == 'p' then
    local keys, count = {}, tonumber(ARGV[at + 6])
    for i = 1, count do keys[i] = ARGV[at + 6 + i] end
    local amount = { tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]) }
    put(ARGV[at + 1], tonumber(ARGV[at + 2]), amount, keys)
    at = at + 7 + count
  elseif kind == 't' then
    local a = account(ARGV[at + 1])
    turn(a)
    total(a, ARGV[at + 2], tonumber(ARGV[at + 3]))
    at = at + 4
  elseif kind == 's' then
    local names, count = {}, tonumber(ARGV[at + 4])
    for i = 1, count do
      local from = at + 4 + (i - 1) * 4
      names[i] = { ARGV[from + 1], tonumber(ARGV[from + 2]), tonumber(ARGV[from + 3]), tonumber(ARGV[from + 4]) }
    end
    seed(account(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), names)
    at = at + 5 + count * 4
  else
    if owes then
      pour(account(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]))
    end
    at = at + 5
  end
end

if complete == '1' and not whole then redis.call('HSET', requests, 'e', epoch) end
save()
return overdrawn

-- KEYS: this gateway's requests, then accounts. ARGV: epoch, number of the request or '' to look only, input, output, money;
-- then of each account: slots or -1, period of its budget (0 none, 1 day, 2 month, 3 ever), budget, how many rates, and of
-- each: field, limit, ticks of its span, milliseconds of a tick.
-- Answers 1 taken, 0 it does not fit, 2 with the places of accounts that are not known, 3 a stranger; after 1 and 0 each
-- account: n, I, O, H, spent of day, month, ever, levels of its rates; a single -1 for one that is not known.
local requests, epoch, number = KEYS[1], ARGV[1], ARGV[2]
local input, output, money = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local looks = number == ''

if not looks then
  if redis.call('HGET', requests, 'e') ~= epoch then return { 3 } end
  -- One that was taken already: the question was asked twice.
  if redis.call('HEXISTS', requests, number) == 1 then looks = true end
end

local unknown = { 2 }
local fits = true
local at = 5
local wanted = {}

for i = 2, #KEYS do
  local a = account(KEYS[i])
  if not a.has.D then
    unknown[#unknown + 1] = i - 2
  else
    turn(a)
  end
  local slots, per, budget = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local rates = tonumber(ARGV[at + 4])
  at = at + 4
  local mine = {}
  for _ = 1, rates do
    local field, limit = ARGV[at + 1], tonumber(ARGV[at + 2])
    local ticks, step = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    at = at + 4
    local level, since, before, old = rate(a, field)
    if not level then
      level, since = 0, now
    elseif before ~= limit or old ~= ticks then
      if old ~= ticks then level = math.ceil(level / old) * ticks end
      level = math.min(level, limit * ticks)
    end
    local meter = string.sub(field, 2, 2)
    local ask = weight(meter, 1, input, output)
    local held = weight(meter, 0, get(a, 'I'), get(a, 'O'))
    if ask > 0 and (ask > limit or level + held * ticks + ask * ticks > limit * ticks) then fits = false end
    mine[#mine + 1] = { field, level, since, limit, ticks, step, meter == 'q' }
  end
  if slots >= 0 and get(a, 'n') >= slots then fits = false end
  if per > 0 and money > 0 then
    local sums = { spent(a) }
    if money > math.max(0, budget - sums[per] - get(a, 'H')) then fits = false end
  end
  wanted[i] = { a, mine, per, budget }
end

if #unknown > 1 and not looks then return unknown end

local takes = fits and not looks
local reply = { takes and 1 or 0 }
if looks and number ~= '' then reply[1] = 1 end
local record = { 0, input, output, money }

for i = 2, #KEYS do
  local a, mine = wanted[i][1], wanted[i][2]
  if takes then
    record[#record + 1] = KEYS[i]
    add(a, 'n', 1)
    add(a, 'I', input)
    add(a, 'O', output)
    add(a, 'H', money)
    set(a, 'P', wanted[i][3])
    set(a, 'L', wanted[i][4])
  end
  if a.has.D then
    for _, field in ipairs({ 'n', 'I', 'O', 'H' }) do reply[#reply + 1] = get(a, field) end
    for _, sum in ipairs({ spent(a) }) do reply[#reply + 1] = sum end
    for _, one in ipairs(mine) do
      local level = one[2]
      if takes and one[7] then level = level + one[5] end
      if takes then put_rate(a, one[1], level, one[3], one[4], one[5], one[6]) end
      reply[#reply + 1] = level
    end
  else
    reply[#reply + 1] = -1
  end
end

if takes then
  redis.call('HSET', requests, number, cmsgpack.pack(record))
  save()
end
return reply

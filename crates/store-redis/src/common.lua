-- Shared by all scripts: accounts, their rates and periods.
--
-- Every number is whole and below 2^53, which Lua's numbers keep exact. A rate is a leaky bucket as in the gateway: its level
-- is kept in tokens times ticks of its span, of which `limit` leak at each tick. Times are milliseconds of this server's
-- clock; a clock that goes back leaks nothing.
--
-- An account is a hash. T: spent ever, as the ledger says; U: ended, and not in the ledger yet; H, I, O: held money, input,
-- output; n: in flight; D, M: day and month; B, C: T + U when they began; t:NAME: the part of T of a name in the ledger;
-- r…: rates. It is known when it has a D.

local WHOLE = 9007199254740992
local IDLE = 3 * 86400 * 1000

local function num(n)
  return string.format('%.0f', n)
end

local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(tonumber(time[2]) / 1000)
local today = math.floor(second / 86400)

-- The month of a day, counted since the year 0 (Howard Hinnant, civil_from_days).
local function month_of(day)
  local days = day + 719468
  local era = math.floor(days / 146097)
  local rest = days - era * 146097
  local year = math.floor((rest - math.floor(rest / 1460) + math.floor(rest / 36524) - math.floor(rest / 146096)) / 365)
  local of_year = rest - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local back = 0
  if month < 10 then month = month + 3 else month = month - 9; back = 1 end
  return (year + era * 400 + back) * 12 + month - 1
end

local accounts = {}

local function account(key)
  local known = accounts[key]
  if known then return known end
  local flat = redis.call('HGETALL', key)
  local has = {}
  for i = 1, #flat, 2 do has[flat[i]] = flat[i + 1] end
  known = { key = key, has = has, new = {}, changed = false }
  accounts[key] = known
  return known
end

local function get(a, field)
  return tonumber(a.has[field] or '0')
end

local function put_text(a, field, text)
  if a.has[field] ~= text then
    a.has[field] = text
    a.new[field] = text
    a.changed = true
  end
end

local function set(a, field, n)
  if n < 0 then n = 0 end
  if n > WHOLE then n = WHOLE end
  put_text(a, field, num(n))
end

local function add(a, field, n)
  if n ~= 0 then set(a, field, get(a, field) + n) end
end

-- Begins a day and a month; one that has begun does not end again because a clock was put back.
local function turn(a)
  if a.has.D and today > get(a, 'D') then
    local total = get(a, 'T') + get(a, 'U')
    set(a, 'D', today)
    set(a, 'B', total)
    local month = month_of(today)
    if month > get(a, 'M') then
      set(a, 'M', month)
      set(a, 'C', total)
    end
  end
end

local function spent(a)
  local total = get(a, 'T') + get(a, 'U')
  return math.max(0, total - get(a, 'B')), math.max(0, total - get(a, 'C')), total
end

-- A rate by its field: level, the time up to which it has leaked, limit, ticks, milliseconds of a tick.
local function rate(a, field)
  local text = a.has[field]
  if not text then return nil end
  local level, at, limit, ticks, step = string.match(text, '(%d+) (%d+) (%d+) (%d+) (%d+)')
  level, at, limit = tonumber(level), tonumber(at), tonumber(limit)
  ticks, step = tonumber(ticks), tonumber(step)
  if at > now then at = now end
  local passed = math.floor((now - at) / step)
  if limit * passed >= level then
    level, at = 0, now
  else
    level, at = level - limit * passed, at + passed * step
  end
  return level, at, limit, ticks, step
end

local function put_rate(a, field, level, at, limit, ticks, step)
  if level > WHOLE then level = WHOLE end
  put_text(a, field, num(level) .. ' ' .. num(at) .. ' ' .. num(limit) .. ' ' .. num(ticks) .. ' ' .. num(step))
end

-- What a need weighs in a rate, by the first letter of its field's name: q requests, i input, o output, t both.
local function weight(meter, requests, input, output)
  if meter == 'q' then return requests end
  if meter == 'i' then return input end
  if meter == 'o' then return output end
  return input + output
end

local function pour(a, requests, input, output)
  local fields = {}
  for field in pairs(a.has) do
    if string.sub(field, 1, 1) == 'r' then fields[#fields + 1] = field end
  end
  for _, field in ipairs(fields) do
    local used = weight(string.sub(field, 2, 2), requests, input, output)
    if used > 0 then
      local level, at, limit, ticks, step = rate(a, field)
      put_rate(a, field, level + used * ticks, at, limit, ticks, step)
    end
  end
end

-- The ledger says that an account has spent so much ever under one of its names.
local function total(a, name, n)
  local field = 't:' .. name
  local before = get(a, field)
  if n > before then
    set(a, field, n)
    add(a, 'T', n - before)
  end
end

-- Ends what a request held.
local function release(a, old)
  add(a, 'n', -1)
  add(a, 'I', -old[2])
  add(a, 'O', -old[3])
  add(a, 'H', -old[4])
end

local function save()
  for key, a in pairs(accounts) do
    if a.changed then
      local flat = {}
      for field, text in pairs(a.new) do
        flat[#flat + 1] = field
        flat[#flat + 1] = text
      end
      redis.call('HSET', key, unpack(flat))
      redis.call('PEXPIRE', key, IDLE)
    end
  end
end

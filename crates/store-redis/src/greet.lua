-- KEYS: what is common, all gateways. ARGV: this gateway, an epoch to begin where there is none, 1 for this gateway's
-- numbers, the beginning of the names of gateways' requests, their time to live.
-- Answers epoch, its age, 1 where this gateway is known, how many gateways, and of each its id and 1 where all it has was
-- brought; then numbers.
local common, gateways = KEYS[1], KEYS[2]
local me, fresh, whole, prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local epoch = redis.call('HGET', common, 'epoch')
if not epoch then
  epoch = fresh
  redis.call('HSET', common, 'epoch', epoch, 'since', num(now))
end
local age = math.max(0, now - tonumber(redis.call('HGET', common, 'since')))
redis.call('SADD', gateways, me)
redis.call('PEXPIRE', prefix .. me, ARGV[5])

local function complete(gateway)
  return redis.call('HGET', prefix .. gateway, 'e') == epoch and 1 or 0
end

local all = redis.call('SMEMBERS', gateways)
local reply = { epoch, age, complete(me), #all }
for _, gateway in ipairs(all) do
  reply[#reply + 1] = gateway
  reply[#reply + 1] = complete(gateway)
end
if whole == '1' then
  for _, number in ipairs(redis.call('HKEYS', prefix .. me)) do
    if number ~= 'e' and number ~= 'd' then reply[#reply + 1] = number end
  end
end
return reply

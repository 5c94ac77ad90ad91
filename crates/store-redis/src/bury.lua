-- KEYS: all gateways, the requests of one that is no more. ARGV: its id, 1 to give back what it held. Answers the accounts.
local gateways, requests = KEYS[1], KEYS[2]
local seen, reply = {}, {}
local flat = redis.call('HGETALL', requests)
for i = 1, #flat, 2 do
  if flat[i] ~= 'e' and flat[i] ~= 'd' then
    local old = cmsgpack.unpack(flat[i + 1])
    for place = 5, #old do
      local key = old[place]
      if not seen[key] then
        seen[key] = true
        reply[#reply + 1] = key
      end
      if ARGV[2] == '1' then
        local a = account(key)
        turn(a)
        if old[1] == 0 then
          release(a, old)
          -- How much of it was used nobody knows: no more than this.
          pour(a, 0, old[2], old[3])
        else
          add(a, 'U', -old[4])
        end
      end
    end
  end
end
if ARGV[2] == '1' then
  redis.call('DEL', requests)
  redis.call('SREM', gateways, ARGV[1])
  save()
end
return reply

-- The live leases that are counted on a slot, some at a time. Reads only.
--
-- KEYS  own, lease
-- ARGV  slot, how many to pass over, how many at most
-- Gives {lease id, 'H' or 'C', lease id, …} in the order of their expiry.

local slot, now = tonumber(ARGV[1]), clock()
local from, to = digits(slot * SLOT + now + 1), digits(slot * SLOT + SLOT - 1)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], from, to, 'LIMIT', ARGV[2], ARGV[3])
if #ids == 0 then return {} end
local answer = {}
for i, found in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
  local record = parse(found)
  answer[2 * i - 1] = ids[i]
  answer[2 * i] = record and record.state or 'E'
end
return answer

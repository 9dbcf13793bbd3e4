-- Gives the leadership of a cell up. Its epoch stays known.
--
-- KEYS  lead
-- ARGV  who holds it, the epoch
-- Gives 1 if it was held, else 0.

local lead = redis.call('HMGET', KEYS[1], 'holder', 'epoch')
if lead[1] ~= ARGV[1] or lead[2] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'until')
return 1

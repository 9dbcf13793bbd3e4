-- Notes up to where a group of consumers has dealt with the events; it never goes back.
--
-- KEYS  grp
-- ARGV  group, position

local before = redis.call('HGET', KEYS[1], ARGV[1])
if before and tonumber(before) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1

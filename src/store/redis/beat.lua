-- Notes that a node lives.
--
-- KEYS  beat
-- ARGV  node, for how many ms
-- Gives when that is over.

local until_ms = clock() + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], digits(until_ms), ARGV[1])
return until_ms

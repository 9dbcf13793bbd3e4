-- Shuts out every leader with an older epoch.
--
-- KEYS  meta, st
-- ARGV  the epoch
-- Gives {'F', the newer epoch}, or {'H', the epoch before, seq, cursor, clock, 1 if it is whole, how many records there are}.

local META, RECORDS = KEYS[1], KEYS[2]
must_be('hash', META)
local meta = redis.call('HMGET', META, 'epoch', 'seq', 'cursor', 'clock', 'partial', 'before')
local epoch, count = tonumber(ARGV[1]), redis.call('HLEN', RECORDS)
if number(meta[1]) > epoch then return { 'F', number(meta[1]) } end
local before = number(meta[6])
if number(meta[1]) < epoch then
  before = number(meta[1])
  redis.call('HSET', META, 'epoch', digits(epoch), 'before', digits(before))
end
return { 'H', before, number(meta[2]), number(meta[3]), number(meta[4]), meta[5] == '1' and 0 or 1, count }

-- Notes a registration.
--
-- KEYS  reg, regx
-- ARGV  proxy and address-of-record, Call-ID, CSeq, for how many ms it is kept, 1 if it ends now, how many to forget at most
-- Gives 1, or 0 if a later REGISTER was there before.

local REGISTRATIONS, ENDS = KEYS[1], KEYS[2]
must_be('hash', REGISTRATIONS)
must_be('zset', ENDS)
local now = clock()
local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', digits(now), 'LIMIT', 0, ARGV[6])
if #over > 0 then
  redis.call('HDEL', REGISTRATIONS, unpack(over))
  redis.call('ZREM', ENDS, unpack(over))
end
local name, call_id, cseq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local before = redis.call('HGET', REGISTRATIONS, name)
if before then
  local ends, _, _, its_cseq, its_call_id = string.match(before, '^(%d+) (%d+) ([01]) (%d+) (.*)$')
  if ends and tonumber(ends) > now and its_call_id == call_id and cseq < tonumber(its_cseq) then return 0 end
end
local ends = digits(now + tonumber(ARGV[4]))
local saved = ends .. ' ' .. digits(now) .. ' ' .. ARGV[5] .. ' ' .. digits(cseq) .. ' ' .. call_id
redis.call('HSET', REGISTRATIONS, name, saved)
redis.call('ZADD', ENDS, ends, name)
return 1

-- Which leases are live. Reads only.
--
-- KEYS  birth, lease
-- ARGV  lease ids
-- Gives {history, then 1 or 0 for each}.

local now = clock()
local answer = { history(KEYS[1]) }
for i, found in ipairs(redis.call('HMGET', KEYS[2], unpack(ARGV))) do
  local record = parse(found)
  answer[i + 1] = record and record.state ~= 'E' and record.expires > now and 1 or 0
end
return answer

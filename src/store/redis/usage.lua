-- What limits have used. Reads only.
--
-- KEYS  lease
-- ARGV  scopes
-- Gives for each its live leases and, as text, its theoretical arrival time in µs.

local now, answer = clock(), {}
local prefix = string.sub(KEYS[1], 1, -6)
for i, scope in ipairs(ARGV) do
  answer[2 * i - 1] = redis.call('ZCOUNT', prefix .. 'calls:' .. scope, digits(now + 1), '+inf')
  answer[2 * i] = redis.call('GET', prefix .. 'rate:' .. scope) or '0'
end
return answer

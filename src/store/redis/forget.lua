-- Forgets heartbeats that are over, of nodes that are no longer there.
--
-- KEYS  beat
-- ARGV  nodes

local now = clock()
for _, node in ipairs(ARGV) do
  local until_ms = redis.call('ZSCORE', KEYS[1], node)
  if until_ms and tonumber(until_ms) <= now then redis.call('ZREM', KEYS[1], node) end
end
return 1

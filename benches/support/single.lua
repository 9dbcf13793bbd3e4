-- What is compared against: one pick a call, as small as it can be made, with the writes of a pick of MQS.
--
-- KEYS  lease, own, shelf, touch
-- ARGV  lease id, the other targets, lifetime in ms

local SLOT, OCC, TOUCH = 2 ^ 42, 2 ^ 26, 2 ^ 25
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if redis.call('HGET', KEYS[1], ARGV[1]) then return -1 end
local member = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
local slot, capacity = tonumber(string.sub(member, 1, 4)), tonumber(string.sub(member, 6))
local expires = now + ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], 'H 0 ' .. slot .. ARGV[2] .. ' ' .. string.format('%d', expires))
redis.call('ZADD', KEYS[2], string.format('%d', slot * SLOT + expires), ARGV[1])
local touched = redis.call('INCR', KEYS[4])
local load = redis.call('ZCOUNT', KEYS[2], string.format('%d', slot * SLOT + now + 1),
  string.format('%d', slot * SLOT + SLOT - 1))
local score = math.floor((load + 1) / capacity * OCC) * TOUCH + touched % TOUCH
redis.call('ZADD', KEYS[3], string.format('%d', score), member)
return slot

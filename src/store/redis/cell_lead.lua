-- Takes or keeps the leadership of a cell.
--
-- KEYS  lead, meta
-- ARGV  who asks, the epoch in which it leads or 0, for how many ms, 1 if it may found the cell, 1 if it wants a new epoch
-- Gives {'Y', epoch, time in ms}, {'T', holder, how many ms are left, time} or {'U', time}.

local LEAD, META = KEYS[1], KEYS[2]
must_be('hash', LEAD)
must_be('hash', META)
local holder, asked = ARGV[1], tonumber(ARGV[2])
local now = clock()
local lead = redis.call('HMGET', LEAD, 'holder', 'epoch', 'until')
local granted, ends = number(lead[2]), number(lead[3])
local opened = number(redis.call('HGET', META, 'epoch'))
local until_then = digits(now + tonumber(ARGV[3]))
local mine = lead[1] == holder and granted == asked

if mine and opened <= asked and ARGV[5] ~= '1' then
  redis.call('HSET', LEAD, 'until', until_then)
  return { 'Y', asked, now }
end
if lead[1] and not mine and ends > now then return { 'T', lead[1], ends - now, now } end
local latest = math.max(opened, granted, asked)
if latest == 0 and ARGV[4] ~= '1' then return { 'U', now } end
local epoch = math.max(latest + 1, now)
redis.call('HSET', LEAD, 'holder', holder, 'epoch', digits(epoch), 'until', until_then)
return { 'Y', epoch, now }

-- Uses the token of an offer for a leg.
--
-- KEYS  meta, tok
-- ARGV  offer, leg
-- Gives Y (yes), A (again), U (used by another), S (stale) or N (not known).

local token = redis.call('HGET', KEYS[2], ARGV[1])
if not token then return 'N' end
local epoch, leg = string.match(token, '^(%d+) (.*)$')
if not epoch then error('the token of an offer is none') end
if number(redis.call('HGET', KEYS[1], 'epoch')) ~= tonumber(epoch) then return 'S' end
if leg == ARGV[2] then return 'A' end
if leg ~= '' then return 'U' end
redis.call('HSET', KEYS[2], ARGV[1], epoch .. ' ' .. ARGV[2])
return 'Y'

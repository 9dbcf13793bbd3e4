-- When the heartbeats of a pool's nodes run out. Reads only.
--
-- KEYS  birth, beat
-- Gives {time in ms, history, node, until, node, until, …}.

local answer = { clock(), history(KEYS[1]) }
for i, part in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')) do
  answer[i + 2] = i % 2 == 0 and digits(tonumber(part)) or part
end
return answer

-- What a pool is now. Reads only, so a replica may answer it.
--
-- KEYS  birth, ver, node, own, then every shelf of the definitions that the caller knows
-- ARGV  version that the caller knows
-- Gives {version, time in ms, history, 0, the definitions} if the version is another one,
--       else {version, time in ms, history, 1, slot, load, touched, slot, load, touched, …}.

local BIRTH, VER, NODE, OWN, SHELVES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], 4

local version, now = redis.call('GET', VER) or '0', clock()
if version ~= ARGV[1] then return { tonumber(version), now, history(BIRTH), 0, redis.call('HVALS', NODE) } end
local answer = { tonumber(version), now, history(BIRTH), 1 }
for i = SHELVES + 1, #KEYS do
  local members = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')
  for j = 1, #members, 2 do
    local slot, n = tonumber(string.match(members[j], '^%d+')), #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = slot, load_of(OWN, slot, now), members[j + 1] % TOUCH
  end
end
return answer

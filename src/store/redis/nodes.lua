-- Replaces the definitions of a pool, and lays its shelves out anew.
--
-- KEYS  birth, ver, node, own, at, then every shelf of the old and of the new definitions
-- ARGV  version that is expected, then for each node: id, definition, slot, capacity, place of its shelf in KEYS behind `at`
-- Gives the new version, or 0 if somebody else was first.

local BIRTH, VER, NODE, OWN, AT, SHELVES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], 5

local version = redis.call('GET', VER) or '0'
if version ~= ARGV[1] then return 0 end
local now = clock()

-- Who was touched when is known by the old shelves only.
local touched = {}
for i = SHELVES + 1, #KEYS do
  local old = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')
  for j = 1, #old, 2 do
    touched[tonumber(string.match(old[j], '^%d+'))] = old[j + 1] % TOUCH
  end
  redis.call('DEL', KEYS[i])
end
redis.call('DEL', NODE, AT)

for i = 2, #ARGV, 5 do
  local slot, capacity = tonumber(ARGV[i + 2]), ARGV[i + 3]
  local member, shelf = string.format('%04d:%d', slot, capacity), KEYS[SHELVES + ARGV[i + 4]]
  redis.call('HSET', NODE, ARGV[i], ARGV[i + 1])
  redis.call('HSET', AT, slot, member .. ' ' .. shelf)
  redis.call('ZADD', shelf, score_of(load_of(OWN, slot, now), capacity, touched[slot] or 0), member)
end

-- Also a time, so that after lost history no version comes twice with different definitions.
local next = math.max(tonumber(version) + 1, now)
redis.call('SET', VER, digits(next))
-- An emptied server gets another one.
local t = redis.call('TIME')
redis.call('SET', BIRTH, t[1] .. '.' .. t[2], 'NX')
return next

-- Leases a node for one lookup that has no wishes beyond a plain plan: what `pick.lua` does for a batch, for the most frequent
-- batch of all, at a third of its cost. What is not plain after all is left to that script.
--
-- KEYS  lease, own, ver, touch, tomb, then the shelves of the caller's zone, then the others
-- ARGV  version of the definitions, lifetime of a held lease in ms, zone spill in thousandths, how many of the shelves are of
--       the caller's zone, room in thousandths or '' for no limit, lease id, most targets, fallback slots
-- Gives as `pick.lua` for one lookup: 'L…', 'R…', 'F', 'N' or 'O', or another version; and 'B' when it needs the other script.

local LEASE, OWN, VER, TOUCHES, TOMB, SHELVES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], 5
local version = redis.call('GET', VER) or '0'
if version ~= ARGV[1] then return tonumber(version) end
local now = clock()
local id = ARGV[6]
local record = redis.call('HGET', LEASE, id)
local known = record and parse(record)
if known then
  if known.expires > now and known.targets ~= '' then return 'R' .. known.targets end
  if known.state ~= 'E' then return 'B' end -- it is counted elsewhere
  if known.attempt == OVERFLOWED and known.expires > now then return 'O' end
end

local key, member, score
local function least(from, to)
  for i = from, to do
    local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
    local its = tonumber(first[2])
    if its and (not score or its < score or (its == score and first[1] < member)) then
      key, member, score = KEYS[i], first[1], its
    end
  end
end

local near_count, room_pm = tonumber(ARGV[4]), tonumber(ARGV[5])
local slot, capacity, load
local function fits()
  slot, capacity = tonumber(string.sub(member, 1, 4)), tonumber(string.sub(member, 6))
  load = carried(score, capacity)
  return not room_pm or load < math.floor(capacity * room_pm / 1000)
end

least(SHELVES + 1, SHELVES + near_count)
if not (member and fits() and (load + 1) * 1000 <= tonumber(ARGV[3]) * capacity) then
  least(SHELVES + near_count + 1, #KEYS)
  if not member then return 'N' end
  if not fits() then return 'F' end
end

local targets, count, most = tostring(slot), 1, tonumber(ARGV[7])
for other in string.gmatch(ARGV[8], '%d+') do
  if count >= most then break end
  if tonumber(other) ~= slot then
    targets = targets .. ',' .. other
    count = count + 1
  end
end
local expires = now + tonumber(ARGV[2])
redis.call('HSET', LEASE, id, 'H 0 ' .. targets .. ' ' .. digits(expires))
redis.call('ZADD', OWN, digits(slot * SLOT + expires), id)
if known then redis.call('ZREM', TOMB, id) end
local touched = redis.call('INCRBY', TOUCHES, 1)
redis.call('ZADD', key, digits(score_of(load_of(OWN, slot, now), capacity, touched)), member)
return 'L' .. targets

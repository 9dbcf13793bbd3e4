-- Takes out expired leases and forgotten tombs, and corrects the scores that the leases were counted in.
--
-- KEYS  lease, own, ver, at, tomb, then every shelf of the pool
-- ARGV  version of the definitions that the shelves are of, how many to take out at most
-- Gives {expired, forgotten, 1 if there is more}; or, if the definitions are of another version, only that version.

local LEASE, OWN, VER, AT, TOMB = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local version = redis.call('GET', VER) or '0'
if version ~= ARGV[1] then return tonumber(version) end
local left, more = tonumber(ARGV[2]), 0
local now = clock()

-- One more than allowed is asked for, to know whether there is more.
local function take(key, from, to)
  local ids = redis.call('ZRANGEBYSCORE', key, from, to, 'LIMIT', 0, left + 1)
  if #ids > left then
    ids[#ids] = nil
    more = 1
  end
  if #ids > 0 then
    redis.call('ZREM', key, unpack(ids))
    redis.call('HDEL', LEASE, unpack(ids))
    left = left - #ids
  end
  return #ids
end

-- From one slot that has leases to the next: also slots that are defined no longer.
local expired, dirty, slot = 0, {}, 0
while more == 0 do
  local next = redis.call('ZRANGEBYSCORE', OWN, slot * SLOT, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if not next[2] then break end
  local score = tonumber(next[2])
  slot = math.floor(score / SLOT)
  if score <= slot * SLOT + now then
    expired = expired + take(OWN, slot * SLOT, slot * SLOT + now)
    dirty[slot] = false
  end
  slot = slot + 1
end
local forgotten = more == 0 and take(TOMB, '-inf', now) or 0
rescore(OWN, AT, dirty, now)
return { expired, forgotten, more }

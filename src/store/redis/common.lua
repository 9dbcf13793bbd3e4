-- Put in front of every other script.
--
-- Two scores are packed numbers, exact in a double (below 2^53):
--   own:   slot * 2^42 + expiry in ms        → the load of a slot is a ZCOUNT of its unexpired range
--   shelf: occupancy * 2^25 + touched        → the order of a shelf is the order of choosing
-- Occupancy is (load + 1) / capacity in steps of 2^-26 and below 4: capacities are at most 8000, so two occupancies
-- that differ at all differ by more than one step.

local SLOT, OCC, TOUCH = 2 ^ 42, 2 ^ 26, 2 ^ 25
local OVERFLOWED = 255 -- the attempt of a lookup that another pool answers

-- The only clock: instances need not agree on the time.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Lua's own tostring() rounds at 14 digits, and what Redis makes of a number costs three times as much.
local function digits(number)
  return string.format('%d', number)
end

-- Another text when leases may have been forgotten: the pool was emptied, or this is another server, or it was restarted
-- (from a log that misses the end, perhaps). Without the right to INFO only the first is seen.
local function history(birth)
  local info = redis.pcall('INFO', 'server')
  local run_id = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
  return (redis.call('GET', birth) or '') .. ' ' .. run_id
end

local function load_of(own, slot, now)
  return redis.call('ZCOUNT', own, digits(slot * SLOT + now + 1), digits(slot * SLOT + SLOT - 1))
end

-- The load that a score was made of.
local function carried(score, capacity)
  return math.ceil(math.floor(score / TOUCH) * capacity / OCC) - 1
end

local function score_of(load, capacity, touched)
  local occupancy = math.min(math.floor((load + 1) / capacity * OCC), 4 * OCC - 1)
  return occupancy * TOUCH + touched % TOUCH
end

-- A lease's record: state (Held, Confirmed, Ended), attempt, targets ('-': not known), when it expires or is forgotten, and
-- the limits that it is counted for, if any.
local function parse(record)
  local state, attempt, targets, expires, scopes = string.match(record or '', '^([HCE]) (%d+) (%S*) (%d+) ?(%S*)$')
  if not state then return nil end
  return { state = state, attempt = tonumber(attempt), targets = targets, expires = tonumber(expires), scopes = scopes }
end

-- The slot that a record is, or until its expiry was, counted on.
local function counted_on(record)
  if record.state == 'E' then return nil end
  local index = 0
  for target in string.gmatch(record.targets, '[^,]+') do
    if index == record.attempt then return tonumber(target) end
    index = index + 1
  end
end

-- Writes the scores of slots from what `own` says. Nothing is ever counted up or down, so an error does not last.
-- `dirty`: slot → its new touched number, or false: as it was.
local function rescore(own, at, dirty, now)
  local slots = {}
  for slot in pairs(dirty) do slots[#slots + 1] = slot end
  if #slots == 0 then return end
  local places, scores = redis.call('HMGET', at, unpack(slots)), {}
  for i, slot in ipairs(slots) do
    -- A slot without a definition has no place: its leases are in `own` all the same.
    local member, capacity, shelf = string.match(places[i] or '', '^(%d+:(%d+)) (.+)$')
    if member then
      local touched = dirty[slot] or (redis.call('ZSCORE', shelf, member) or 0) % TOUCH
      local list = scores[shelf] or {}
      scores[shelf] = list
      list[#list + 1] = digits(score_of(load_of(own, slot, now), capacity, touched))
      list[#list + 1] = member
    end
  end
  for shelf, list in pairs(scores) do redis.call('ZADD', shelf, unpack(list)) end
end

-- Writes what a limit counts: score, lease id, score, lease id, …; and lease ids that it counts no more. The key goes when the last of
-- its leases would, whoever gave that one which life.
local function recount(key, live, over, now)
  if #over > 0 then redis.call('ZREM', key, unpack(over)) end
  if #live == 0 then return end
  redis.call('ZADD', key, unpack(live))
  redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(now))
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last then redis.call('PEXPIRE', key, digits(tonumber(last) - now + 1)) end
end

-- Leases a node for each lookup of a batch: reads once, assigns here one lookup after the other, writes once.
--
-- KEYS  lease, own, ver, touch, at, tomb, then every shelf of the pool
-- ARGV  version of the definitions that the plans were made from, lifetime of a held lease, of the memory of an ended one
--       (both ms), zone spill in thousandths, number of plans, number of limits, the plans, the limits,
--       then for each lookup: lease id, number of its plan, most targets, fallback slots, extras
-- Plan  'P' slot, or 'room|near|far|exclude': room in thousandths or '' for no limit, then comma lists: places of
--       shelves in KEYS behind `tomb`, twice, and slots not to use
-- Limit 'scope calls interval tolerance': the last three '' for none, else calls at once and µs (`domain::admission`)
-- Extras  '' or 'limits|key|ms|o': comma list of limits, what the lookup sticks to a node by and for how long, whether
--       another pool answers what this one refuses
-- Gives for each lookup 'L' (leased) or 'R' (repeat) and its targets, 'F' (full), 'N' (no node), 'O' (for another pool),
--       'Apc' or 'Ap' and ms: the pool's limit of calls at once is reached, or of calls a second for so long; 'At…': the tenant's;
--       or, if the definitions are of another version, only that version.
--
-- Limits and ties have keys of their own, made from their names: `…:calls:<scope>` (ZSET: lease id by its expiry),
-- `…:rate:<scope>` (the theoretical arrival time in µs) and `…:tie:<key>` (a slot). They go by themselves.

local LEASE, OWN, VER, TOUCHES, AT, TOMB, SHELVES = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], 6
local counters = redis.call('MGET', VER, TOUCHES)
if (counters[1] or '0') ~= ARGV[1] then return tonumber(counters[1] or 0) end
local PREFIX = string.sub(LEASE, 1, -6) -- of the pool's other keys
local touches = tonumber(counters[2] or 0)
local touches_before = touches
local held_ms, tomb_ms, spill_pm = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local plan_count, limit_count = tonumber(ARGV[5]), tonumber(ARGV[6])
local now = clock()
local RECOUNTED_MAX = 32 -- nodes of a shelf that one batch counts anew

-- Working set. A shelf is what has been read of it so far, in its order (`list`), and a heap of the nodes that this
-- batch has given calls to: those are no longer where the store has them, and are the only ones that moved.
local shelves, nodes, chunk = {}, {}, 1

local function before(a, b)
  return a.score < b.score or (a.score == b.score and a.slot < b.slot)
end

local function open(key)
  local shelf = shelves[key]
  if not shelf then
    shelf = { key = key, list = {}, head = 1, read = 0, heap = {} }
    shelves[key] = shelf
  end
  return shelf
end

local floor, ceil, sub = math.floor, math.ceil, string.sub

-- `member` is `0004:120`, of which `slot` is known.
local function node(shelf, slot, member, score)
  local capacity = tonumber(sub(member, 6))
  score = tonumber(score)
  local load = carried(score, capacity)
  local n = { slot = slot, capacity = capacity, score = score, load = load, touched = 0, shelf = shelf, member = member, at = false, owner = false }
  nodes[slot] = n
  return n
end

-- A shelf is read in pieces, of which the first mostly is enough. Nothing is written before the end, so ranks stay true.
local function read_more(shelf)
  if shelf.done then return false end
  local got = redis.call('ZRANGE', shelf.key, shelf.read, shelf.read + chunk - 1, 'WITHSCORES')
  local list = shelf.list
  for i = 1, #got, 2 do
    local member = got[i]
    local slot = tonumber(sub(member, 1, 4))
    if not nodes[slot] then list[#list + 1] = node(shelf, slot, member, got[i + 1]) end
  end
  shelf.read = shelf.read + #got / 2
  shelf.done = #got < 2 * chunk
  return true
end

-- The first node that this batch has not given a call to yet.
local function untouched(shelf, excluded)
  local i = shelf.head
  while true do
    local n = shelf.list[i]
    if not n then
      if not read_more(shelf) then return nil end
    elseif n.at then
      if i == shelf.head then shelf.head = i + 1 end
      i = i + 1
    elseif excluded[n.slot] then
      i = i + 1
    else
      return n
    end
  end
end

-- The least occupied node that this batch has given a call to.
local function touched(shelf, excluded)
  local best = shelf.heap[1]
  if best and excluded[best.slot] then
    best = nil
    for _, n in ipairs(shelf.heap) do
      if not excluded[n.slot] and (not best or before(n, best)) then best = n end
    end
  end
  return best
end

local function least(keys, excluded, best)
  for i = 1, #keys do
    local shelf = shelves[keys[i]] or open(keys[i])
    local a, b = untouched(shelf, excluded), touched(shelf, excluded)
    if a and (not best or before(a, best)) then best = a end
    if b and (not best or before(b, best)) then best = b end
  end
  return best
end

local function place(heap, at, n)
  heap[at] = n
  n.at = at
end

-- Counts one call more on a node. Its score only rises: a new one sinks in from the end of the heap, an old one from its place.
local function give(n)
  local heap = n.shelf.heap
  touches = touches + 1
  n.load = n.load + 1
  n.score = score_of(n.load, n.capacity, touches)
  n.touched = touches
  if not n.at then
    local at = #heap + 1
    while at > 1 do
      local above = heap[math.floor(at / 2)]
      if not before(n, above) then break end
      place(heap, at, above)
      at = math.floor(at / 2)
    end
    place(heap, at, n)
    return
  end
  local at, count = n.at, #heap
  while 2 * at <= count do
    local below = 2 * at
    if below < count and before(heap[below + 1], heap[below]) then below = below + 1 end
    if not before(heap[below], n) then break end
    place(heap, at, heap[below])
    at = below
  end
  place(heap, at, n)
end

local function pinned(slot)
  local member, key = string.match(redis.call('HGET', AT, slot) or '', '^(%S+) (.+)$')
  if not member then return nil end
  return nodes[slot] or node(open(key), slot, member, redis.call('ZSCORE', key, member) or 0)
end

local function read_plan(text)
  local slot = string.match(text, '^P(%d+)$')
  if slot then return { slot = tonumber(slot) } end
  local room, near, far, exclude = string.match(text, '^(%d*)|([%d,]*)|([%d,]*)|([%d,]*)$')
  local plan = { room_pm = tonumber(room), near = {}, far = {}, exclude = {}, on = {} }
  for i in string.gmatch(near, '%d+') do plan.near[#plan.near + 1] = KEYS[SHELVES + i] end
  for i in string.gmatch(far, '%d+') do plan.far[#plan.far + 1] = KEYS[SHELVES + i] end
  for s in string.gmatch(exclude, '%d+') do plan.exclude[tonumber(s)] = true end
  for _, key in ipairs(plan.near) do plan.on[key] = true end
  for _, key in ipairs(plan.far) do plan.on[key] = true end
  return plan
end

local function fits(plan, load, capacity)
  return not plan.room_pm or load < floor(capacity * plan.room_pm / 1000)
end

-- A node of the plan's choosing, or nil and the reason. If the least occupied node of some shelves has no room, none of
-- them has: having room means that (load + 1) / capacity is at most the share that may be filled.
local function choose(plan)
  if plan.slot then
    local n = pinned(plan.slot)
    return n, n and '' or 'N'
  end
  local near = least(plan.near, plan.exclude)
  if near and fits(plan, near.load, near.capacity) and (near.load + 1) * 1000 <= spill_pm * near.capacity then return near end
  local best = least(plan.far, plan.exclude, near)
  if not best then return nil, 'N' end
  if not fits(plan, best.load, best.capacity) then return nil, 'F' end
  return best
end

-- The node that the key of a lookup sticks to, if it may take the call. It is only made here when it will be given it: what
-- is made and not given would be missed when its shelf is read.
local ties = {}
local function tied(plan, key)
  local slot = ties[key] or tonumber(redis.call('GET', PREFIX .. 'tie:' .. key) or '')
  if not slot or plan.slot or plan.exclude[slot] then return nil end
  local known = nodes[slot]
  if known then return plan.on[known.shelf.key] and fits(plan, known.load, known.capacity) and known or nil end
  local member, at = string.match(redis.call('HGET', AT, slot) or '', '^(%S+) (.+)$')
  if not member or not plan.on[at] then return nil end
  local score, capacity = tonumber(redis.call('ZSCORE', at, member) or 0), tonumber(sub(member, 6))
  return fits(plan, carried(score, capacity), capacity) and node(open(at), slot, member, score) or nil
end

-- Limits. Each is read when the first lookup asks for it, and written once.
local limits = {}
local function read_limit(text)
  local name, calls, interval, tolerance = string.match(text, '^(%S+) (%d*) (%d*) (%d*)$')
  return { name = name, calls = tonumber(calls), interval = tonumber(interval), tolerance = tonumber(tolerance), new = {} }
end

local function limited(list)
  for i in string.gmatch(list, '%d+') do
    local limit = limits[tonumber(i)]
    if not limit.live then
      limit.live = redis.call('ZCOUNT', PREFIX .. 'calls:' .. limit.name, digits(now + 1), '+inf')
      limit.arrival = tonumber(limit.interval and redis.call('GET', PREFIX .. 'rate:' .. limit.name) or 0)
    end
    if limit.calls and limit.live >= limit.calls then return 'A' .. sub(limit.name, 1, 1) .. 'c' end
    local ahead = limit.interval and limit.arrival - (now * 1000 + limit.tolerance) or 0
    if ahead > 0 then return 'A' .. sub(limit.name, 1, 1) .. digits(ceil(ahead / 1000)) end
  end
end

local function admit(list, id, expires)
  local names = {}
  for i in string.gmatch(list, '%d+') do
    local limit = limits[tonumber(i)]
    limit.live = limit.live + 1
    if limit.interval then limit.arrival = math.max(limit.arrival, now * 1000) + limit.interval end
    limit.new[#limit.new + 1] = digits(expires)
    limit.new[#limit.new + 1] = id
    names[#names + 1] = limit.name
  end
  return #names > 0 and ' ' .. table.concat(names, ',') or ''
end

-- Lookups that wait together mostly have the same fallbacks: each list is read once.
local lists = {}
local function split(fallbacks)
  local list = { slots = {}, texts = {} }
  for text in string.gmatch(fallbacks, '%d+') do
    list.slots[#list.slots + 1] = tonumber(text)
    list.texts[#list.texts + 1] = ',' .. text
  end
  lists[fallbacks] = list
  return list
end

local function behind(slot, fallbacks, most)
  local list = lists[fallbacks] or split(fallbacks)
  local targets, count = tostring(slot), 1
  for i, other in ipairs(list.slots) do
    if count >= most then break end
    if other ~= slot then
      count = count + 1
      targets = targets .. list.texts[i]
    end
  end
  return targets
end

local plans = {}
for i = 1, plan_count do plans[i] = read_plan(ARGV[6 + i]) end
for i = 1, limit_count do limits[i] = read_limit(ARGV[6 + plan_count + i]) end
local first = 7 + plan_count + limit_count
local ids = {}
for i = first, #ARGV, 5 do ids[#ids + 1] = ARGV[i] end
local records = redis.call('HMGET', LEASE, unpack(ids))
chunk = math.min(#ids, 64)

local expires = now + held_ms
local expires_text = ' ' .. digits(expires)
local answers, given, dirty = {}, {}, {}
local new_records, new_owners, raised, marked = {}, {}, {}, {}
local sticks = {}
for i, id in ipairs(ids) do
  local arg = first + 5 * (i - 1)
  local known = records[i] and parse(records[i])
  local wanted, key, keep_ms, overflows = '', '', '', false
  if ARGV[arg + 4] ~= '' then
    wanted, key, keep_ms, overflows = string.match(ARGV[arg + 4], '^([%d,]*)|(%x*)|(%d*)|(o?)$')
    overflows = overflows == 'o'
  end
  if given[id] then
    answers[i] = given[id]
  elseif known and known.expires > now and known.targets ~= '' then
    answers[i] = 'R' .. known.targets
  elseif known and known.state == 'E' and known.attempt == OVERFLOWED and known.expires > now then
    answers[i] = 'O'
  else
    local plan = plans[tonumber(ARGV[arg + 1])]
    -- Nearly all lookups have no limits: those pay nothing for them.
    local n, refusal = nil, wanted ~= '' and limited(wanted) or nil
    if not refusal then
      n = key ~= '' and tied(plan, key) or nil
      if not n then n, refusal = choose(plan) end
    end
    if n then
      give(n)
      local targets = behind(n.slot, ARGV[arg + 3], tonumber(ARGV[arg + 2]))
      given[id] = 'R' .. targets
      answers[i] = 'L' .. targets
      n.owner = n.owner or digits(n.slot * SLOT + expires)
      local at = #new_records
      new_records[at + 1], new_records[at + 2] = id, 'H 0 ' .. targets .. expires_text
      if wanted ~= '' then new_records[at + 2] = new_records[at + 2] .. admit(wanted, id, expires) end
      new_owners[at + 1], new_owners[at + 2] = n.owner, id
      if known and known.state == 'E' then raised[#raised + 1] = id end
      local was = known and counted_on(known)
      if was then dirty[was] = false end
      if key ~= '' then ties[key], sticks[key] = n.slot, keep_ms end
    elseif overflows and (refusal == 'F' or refusal == 'N') then
      answers[i], given[id] = 'O', 'O'
      redis.call('HSET', LEASE, id, 'E ' .. OVERFLOWED .. '  ' .. digits(now + tomb_ms))
      marked[#marked + 1], marked[#marked + 2] = digits(now + tomb_ms), id
    else
      answers[i] = refusal
    end
  end
end

if #marked > 0 then redis.call('ZADD', TOMB, unpack(marked)) end
for key, keep_ms in pairs(sticks) do redis.call('SET', PREFIX .. 'tie:' .. key, ties[key], 'PX', keep_ms) end
for _, limit in ipairs(limits) do
  if #limit.new > 0 then
    recount(PREFIX .. 'calls:' .. limit.name, limit.new, {}, now)
    if limit.interval then
      local left = math.max(1, ceil((limit.arrival - now * 1000) / 1000))
      redis.call('SET', PREFIX .. 'rate:' .. limit.name, digits(limit.arrival), 'PX', digits(left))
    end
  end
end
if #new_records > 0 then
  redis.call('HSET', LEASE, unpack(new_records))
  redis.call('ZADD', OWN, unpack(new_owners))
  if #raised > 0 then redis.call('ZREM', TOMB, unpack(raised)) end
  redis.call('INCRBY', TOUCHES, touches - touches_before)
  for key, shelf in pairs(shelves) do
    local scores = {}
    for i, n in ipairs(shelf.heap) do
      -- Counted from the leases. A batch over many nodes counts only some of them anew and takes the others' loads from the
      -- shelf, with what was given here: whatever ends or sweeps one of their leases counts those.
      if i <= RECOUNTED_MAX then
        dirty[n.slot] = nil
        n.score = score_of(load_of(OWN, n.slot, now), n.capacity, n.touched)
      elseif dirty[n.slot] ~= nil then
        dirty[n.slot] = n.touched
      end
      scores[2 * i - 1] = digits(n.score)
      scores[2 * i] = n.member
    end
    if #scores > 0 then redis.call('ZADD', key, unpack(scores)) end
  end
  rescore(OWN, AT, dirty, now)
end
return answers

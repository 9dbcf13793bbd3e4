-- Applies verbs to leases, one after the other: the same rules as `domain::lease::settle`.
--
-- KEYS  lease, own, ver, touch, at, tomb, then every shelf of the pool
-- ARGV  version of the definitions that the shelves are of, lifetime of a held lease, of a confirmed one, of the memory of
--       an ended one (all ms), then for each verb: lease id, verb (C, F, D, O), branch, slot or '' (O: slots), latest expiry
-- Gives for each verb C (confirmed), R (already), A (adopted), 'M attempt slot' (moved), E (ended), S (stale) or G (gone);
--       or, if the definitions are of another version, only that version.

local LEASE, OWN, VER, TOUCHES, AT, TOMB = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

local version = redis.call('GET', VER) or '0'
if version ~= ARGV[1] then return tonumber(version) end
local held_ms, call_max_ms, tomb_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()

-- A lease while it is worked on: its targets as a list, '-' for one that is not known.
local function unfold(record)
  local list = {}
  for target in string.gmatch(record.targets, '[^,]+') do list[#list + 1] = target end
  record.list = list
  return record
end

local function target(lease, index)
  return tonumber(lease.list[index + 1] or '-')
end

local function set_target(lease, index, slot)
  while #lease.list <= index do lease.list[#lease.list + 1] = '-' end
  lease.list[index + 1] = string.format('%d', slot)
end

local function ended(list, attempt)
  return { state = 'E', attempt = attempt, list = list, expires = now + tomb_ms }
end

local function confirm(lease, branch, slot, latest)
  local expires = math.min(now + call_max_ms, math.max(latest, now))
  if not lease then
    if not slot or latest <= now then return nil, 'G' end
    lease = { state = 'C', attempt = branch, list = {}, expires = expires }
    set_target(lease, branch, slot)
    return lease, 'A'
  end
  if lease.state == 'E' then return lease, 'G' end
  if branch < lease.attempt then return lease, 'S' end
  -- The token is what the proxy really used: it wins over what is remembered here.
  slot = slot or target(lease, branch)
  if not slot then return lease, 'S' end
  local same = lease.attempt == branch and target(lease, branch) == slot
  if same and lease.state == 'C' then return lease, 'R' end
  set_target(lease, branch, slot)
  lease.attempt, lease.state, lease.expires = branch, 'C', expires
  return lease, 'C'
end

local function fail(lease, branch)
  if not lease then return nil, 'G' end
  if lease.state == 'E' then return lease, 'G' end
  if branch < lease.attempt then return lease, 'S' end
  local attempt = math.min(branch + 1, 255)
  local slot = target(lease, attempt)
  if not slot then return ended(lease.list, lease.attempt), 'E' end
  lease.state, lease.attempt, lease.expires = 'H', attempt, now + held_ms
  return lease, 'M ' .. attempt .. ' ' .. slot, slot
end

local function done(lease)
  if not lease then return ended({}, 0), 'R' end -- remembered, so that a CONFIRM behind it does not bring it to life
  if lease.state == 'E' then return lease, 'R' end
  return ended(lease.list, lease.attempt), 'E'
end

-- What was there before, and what is there now; a lease may be asked about more than once in a batch.
local function adopt(lease, targets)
  if targets == '' then return lease, 'G' end
  if lease then
    if lease.state == 'E' then return lease, 'G' end
    if lease.state == 'C' or lease.attempt > 0 then return lease, 'R' end
  end
  local scopes = lease and lease.scopes
  return unfold({ state = 'H', attempt = 0, targets = targets, expires = now + held_ms, scopes = scopes }), 'A'
end

local ids, before, leases, changed = {}, {}, {}, {}
for i = 5, #ARGV, 5 do
  if before[ARGV[i]] == nil then
    ids[#ids + 1] = ARGV[i]
    before[ARGV[i]] = false
  end
end
local found = redis.call('HMGET', LEASE, unpack(ids))
for i, id in ipairs(ids) do
  local record = parse(found[i])
  before[id] = record or false
  if record and record.expires > now then leases[id] = unfold(parse(found[i])) end
end

local unchanged = { R = true, S = true, G = true }
local answers, dirty, touches = {}, {}, 0
for i = 5, #ARGV, 5 do
  local id, verb, branch = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local known, lease, said, moved_to = leases[id], nil, nil, nil
  if verb == 'C' then
    lease, said = confirm(known, branch, tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
  elseif verb == 'F' then
    lease, said, moved_to = fail(known, branch)
  elseif verb == 'O' then
    lease, said = adopt(known, ARGV[i + 3])
  else
    lease, said = done(known)
  end
  if lease and lease.expires <= now then lease = nil end
  leases[id] = lease
  answers[#answers + 1] = said
  if lease ~= known or not unchanged[said] then changed[id] = true end
  if moved_to then
    if touches == 0 then touches = tonumber(redis.call('GET', TOUCHES) or 0) end
    touches = touches + 1
    dirty[moved_to] = touches
  end
end

local records, owners, tombs, gone = {}, {}, {}, { [LEASE] = {}, [OWN] = {}, [TOMB] = {} }
local function add(list, a, b)
  list[#list + 1] = a
  list[#list + 1] = b
end
-- What limits count: a lease until it ends, with its new expiry.
local limits = {}
local function note(scopes, id, expires)
  for scope in string.gmatch(scopes or '', '[^,]+') do
    local limit = limits[scope] or { live = {}, over = {} }
    limits[scope] = limit
    if expires then add(limit.live, digits(expires), id) else add(limit.over, id) end
  end
end

for id in pairs(changed) do
  local was, lease = before[id], leases[id]
  local scopes = lease and lease.scopes or ''
  if was and was.scopes ~= scopes then note(was.scopes, id, nil) end
  if scopes ~= '' then note(scopes, id, lease.expires) end
  local old_slot = was and counted_on(was)
  local slot = nil
  if lease then
    lease.targets = table.concat(lease.list, ',')
    slot = counted_on(lease)
    add(records, id, lease.state .. ' ' .. lease.attempt .. ' ' .. lease.targets .. ' ' .. digits(lease.expires)
      .. (scopes ~= '' and ' ' .. scopes or ''))
  else
    add(gone[LEASE], id)
  end
  if slot then
    add(owners, digits(slot * SLOT + lease.expires), id)
  else
    add(gone[OWN], id)
  end
  if lease and lease.state == 'E' then
    add(tombs, digits(lease.expires), id)
  elseif was and was.state == 'E' then
    add(gone[TOMB], id)
  end
  -- Still counted where it was counted: that load is what it was.
  local stays = slot and slot == old_slot and was.expires > now
  if old_slot and not stays then dirty[old_slot] = dirty[old_slot] or false end
  if slot and not stays then dirty[slot] = dirty[slot] or false end
end
if #records > 0 then redis.call('HSET', LEASE, unpack(records)) end
if #owners > 0 then redis.call('ZADD', OWN, unpack(owners)) end
if #tombs > 0 then redis.call('ZADD', TOMB, unpack(tombs)) end
for key, out in pairs(gone) do
  if #out > 0 then redis.call(key == LEASE and 'HDEL' or 'ZREM', key, unpack(out)) end
end
for scope, limit in pairs(limits) do
  recount(string.sub(LEASE, 1, -6) .. 'calls:' .. scope, limit.live, limit.over, now)
end
if touches > 0 then redis.call('SET', TOUCHES, digits(touches)) end
rescore(OWN, AT, dirty, now)
return answers

-- Applies a batch to a cell: all of it or nothing.
--
-- KEYS  meta, st, qs, tok, in, ev, then the queues that are named in ARGV, in that order
-- ARGV  epoch, seq, 1 if everything is written anew from here, 1 if that ends here, cursor, clock, the most events to keep;
--       how many there are of each of the following; then
--         records: name, text, …    records that go: name, …
--         queues: for each its name, how many places, how many calls that go; score, call, …; call, …
--         tokens that stay whoever's they are: offer, …   new ones: offer, …   void ones: offer, …
--         events: text, …
-- Gives D (done), R (done before), 'Q' (there are other queues to delete; nothing was changed),
--       {'F', the newer epoch} or {'G', the last seq that is here}.

local META, RECORDS, QUEUES, TOKENS, INBOX, EVENTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local FIRST_QUEUE = 6

must_be('hash', META)
local meta = redis.call('HMGET', META, 'epoch', 'seq', 'seq_epoch', 'cursor', 'clock', 'told', 'partial')
local epoch, seq, first, last = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4] == '1'
local known = number(meta[2])
if number(meta[1]) > epoch then return { 'F', number(meta[1]) } end
if number(meta[1]) < epoch then return { 'G', known } end
-- What another epoch wrote under this number is another batch.
if number(meta[3]) == epoch and seq <= known then return 'R' end
if not first and seq ~= known + 1 then return { 'G', known } end

must_be('hash', RECORDS)
must_be('zset', QUEUES)
must_be('hash', TOKENS)
must_be('stream', INBOX)
must_be('stream', EVENTS)
for i = FIRST_QUEUE + 1, #KEYS do must_be('zset', KEYS[i]) end

-- Where everything is, before anything is written.
local at = 15
local function part(count)
  local from = at
  at = at + count
  return { from = from, to = at - 1 }
end
local function count(i)
  return tonumber(ARGV[i])
end
local puts, gone = part(2 * count(8)), part(count(9))
local queues, named = {}, {}
for i = 1, count(10) do
  local name, places, leaves = ARGV[at], count(at + 1), count(at + 2)
  at = at + 3
  queues[i] = { name = name, key = KEYS[FIRST_QUEUE + i], places = part(2 * places), leaves = part(leaves) }
  named[name] = true
end
local kept, new, void, events = part(count(11)), part(count(12)), part(count(13)), part(count(14))
if at ~= #ARGV + 1 or #KEYS ~= FIRST_QUEUE + #queues then error('a batch that contradicts itself') end
if first then
  for _, name in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do
    if not named[name] then return 'Q' end
  end
end

local function some(list)
  return list.to >= list.from
end

local now = clock()
if first then
  redis.call('DEL', unpack(KEYS, 2, 4))
  for _, queue in ipairs(queues) do redis.call('DEL', queue.key) end
end
if some(gone) then redis.call('HDEL', RECORDS, unpack(ARGV, gone.from, gone.to)) end
if some(puts) then redis.call('HSET', RECORDS, unpack(ARGV, puts.from, puts.to)) end
for _, queue in ipairs(queues) do
  if some(queue.leaves) then redis.call('ZREM', queue.key, unpack(ARGV, queue.leaves.from, queue.leaves.to)) end
  if some(queue.places) then
    redis.call('ZADD', queue.key, unpack(ARGV, queue.places.from, queue.places.to))
    redis.call('ZADD', QUEUES, 0, queue.name)
  end
end
if some(void) then redis.call('HDEL', TOKENS, unpack(ARGV, void.from, void.to)) end
local tokens = {}
local function issue(offer, leg)
  tokens[#tokens + 1] = offer
  tokens[#tokens + 1] = digits(epoch) .. ' ' .. leg
end
if some(kept) then
  for i, token in ipairs(redis.call('HMGET', TOKENS, unpack(ARGV, kept.from, kept.to))) do
    issue(ARGV[kept.from + i - 1], token and string.match(token, '^%d+ (.*)$') or '')
  end
end
for i = new.from, new.to do issue(ARGV[i], '') end
if #tokens > 0 then redis.call('HSET', TOKENS, unpack(tokens)) end

local told = number(meta[6])
for i = events.from, events.to do
  told = next_position(told, now)
  redis.call('XADD', EVENTS, digits(told) .. '-0', 't', ARGV[i])
end
if some(events) then redis.call('XTRIM', EVENTS, 'MAXLEN', '=', ARGV[7]) end

local cursor = math.max(number(meta[4]), tonumber(ARGV[5]))
if cursor > number(meta[4]) then redis.call('XTRIM', INBOX, 'MINID', '=', digits(cursor + 1) .. '-0') end
local partial = meta[7] == '1'
if first then partial = true end
if last then partial = false end
redis.call('HSET', META, 'seq', digits(seq), 'seq_epoch', digits(epoch), 'cursor', digits(cursor),
  'clock', digits(math.max(number(meta[5]), tonumber(ARGV[6]))), 'told', digits(told), 'partial', partial and '1' or '0')
return 'D'

-- Puts a command into the inbox.
--
-- KEYS  meta, in, where the command's key is remembered
-- ARGV  key, text, the most commands to keep, for how many ms the key is remembered
-- Gives {'N', position}, {'R', position} (it was there before) or {'X'} (full).

local META, INBOX, KEY = KEYS[1], KEYS[2], KEYS[3]
must_be('hash', META)
must_be('stream', INBOX)
local before = redis.call('GET', KEY)
if before then return { 'R', tonumber(before) } end
if redis.call('XLEN', INBOX) >= tonumber(ARGV[3]) then return { 'X' } end
local meta = redis.call('HMGET', META, 'sent', 'cursor')
-- Behind the cursor nobody would read it.
local position = next_position(math.max(number(meta[1]), number(meta[2])), clock())
local text = digits(position)
redis.call('XADD', INBOX, text .. '-0', 'k', ARGV[1], 't', ARGV[2])
redis.call('HSET', META, 'sent', text)
redis.call('SET', KEY, text, 'PX', ARGV[4])
return { 'N', position }

-- Takes out a registration that cannot be read, unless it has been written anew.
--
-- KEYS  reg
-- ARGV  proxy and address-of-record, what was found; of bytes that are no text that is not what is there
-- Gives 1, or 0 if there is another one.

must_be('hash', KEYS[1])
local saved = redis.call('HGET', KEYS[1], ARGV[1])
if not saved then return 0 end
if saved ~= ARGV[2] and string.match(saved, '^%d+ %d+ [01] %d+ ') then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])

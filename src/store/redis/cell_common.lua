-- Put in front of the scripts of cells, behind common.lua. What they say is what `store::cell::CellTable` says.
--
-- Numbers from callers are at most 2^53 - 1, so a double holds them exactly.

local function number(text)
  return tonumber(text or '') or 0
end

-- Positions run with the clock: after everything was forgotten none is given again.
local function next_position(last, now)
  return math.max(last + 1, now * 1024)
end

-- Asked before the first write: a key of another kind would break the script in the middle.
local function must_be(kind, key)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then error(key .. ' is a ' .. found .. ', not a ' .. kind) end
end

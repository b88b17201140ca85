-- Forget a channel that has had no event for long, unless its run is running: its mark folds into the one of all that have none
-- of their own.
-- KEYS: the log, the channel's state, its stream, the channels by age, the channels by name
-- ARGV: the channel, the age in ms from which it is to be forgotten
-- Returns 0 if somebody was faster, or has used it since.
local log, state, stream, ages, names = unpack(KEYS)
local channel = ARGV[1]

local at = redis.call('ZSCORE', ages, channel)
if not at or tonumber(at) >= clock() - tonumber(ARGV[2]) or redis.call('XLEN', stream) > 0 then
  return 0
end
local row = redis.call('HMGET', state, 'event', 'trimmed', 'state')
if row[3] == 'running' then
  redis.call('ZADD', ages, clock(), channel)  -- looked at again when that time has passed once more
  return 1
end
local trimmed = math.max(tonumber(row[1] or 0), tonumber(row[2] or 0))
local forgotten = tonumber(redis.call('HGET', log, 'forgotten') or 0)
if trimmed > forgotten then
  redis.call('HSET', log, 'forgotten', integer(trimmed))
end
redis.call('DEL', state, stream)
redis.call('ZREM', ages, channel)
redis.call('ZREM', names, channel)
return 1

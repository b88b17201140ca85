-- What there is of some channels.
-- KEYS: the log, then a state and a stream for each channel
-- ARGV: how many events are shown (-1: all), their age in ms (-1: any)
-- Returns the epoch, and for each channel false, or how many events are shown, the bytes of all that are stored, how many were
-- published, whether it is finished, the ids of the oldest and the newest event.
local history, max_age = tonumber(ARGV[1]), tonumber(ARGV[2])

local function count(stream, from)
  -- Counted by what is hidden, of which there is little.
  local hidden, position = 0, '-'
  while true do
    local some = redis.call('XRANGE', stream, position, integer(from - 1), 'COUNT', 100)
    hidden = hidden + #some
    if #some < 100 then
      return redis.call('XLEN', stream) - hidden
    end
    position = '(' .. some[100][1]
  end
end

local channels = {}
for i = 2, #KEYS, 2 do
  local stream = KEYS[i + 1]
  local row = redis.call('HMGET', KEYS[i], 'last', 'finished', 'trimmed', 'size', 'published')
  local found = false
  if row[1] then
    local from = mark_of(stream, tonumber(row[3]), history, max_age) + 1
    local newest = redis.call('XREVRANGE', stream, '+', integer(from), 'COUNT', 1)[1]
    if newest then
      local oldest = redis.call('XRANGE', stream, integer(from), '+', 'COUNT', 1)[1]
      found = {count(stream, from), row[4], row[5], row[2], oldest[1], newest[1]}
    else
      found = {0, '0', row[5] or '0', row[2], '', ''}
    end
  end
  channels[#channels + 1] = found
end
return {redis.call('HGET', KEYS[1], 'epoch'), channels}

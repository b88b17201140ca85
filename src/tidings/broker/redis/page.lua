-- What some channels hold behind a position, at one moment.
-- KEYS: the log, then a state and a stream for each channel
-- ARGV: the position ('': no entries are asked for), how many events are shown (-1: all), their age in ms (-1: any), entries
--       and bytes that are enough from one channel, the epoch and the newest sequence that the caller knows, an epoch in
--       case that a new one is due
-- Returns the epoch, the newest sequence, the mark of channels that have none of their own, and for each channel false or
-- its mark, whether it is finished, its newest event shown, the places of entries (id, kind, bytes of head and tail of each),
-- and their heads and tails. These are two long strings, as clients are slow to read many short ones.
local after, history, max_age = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local most, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local FETCHED = 16  -- at a time: how large they are isn't known before

local epoch, newest, _, forgotten = open_log(KEYS[1], ARGV[6], ARGV[7], ARGV[8])

local function entries_of(stream, position)
  local places, frames, count, size = {}, {}, 0, 0
  while true do
    local some = redis.call('XRANGE', stream, integer(position + 1), '+', 'COUNT', FETCHED)
    for _, entry in ipairs(some) do
      local kind, head, tail = entry[2][2], entry[2][4], entry[2][6]
      count = count + 1
      places[count] = table.concat({entry[1], kind, #head, #tail}, ' ')
      frames[2 * count - 1], frames[2 * count] = head, tail
      size = size + #head + #tail
      if count == most or size >= most_bytes then
        return places, frames
      end
    end
    if #some < FETCHED then
      return places, frames
    end
    position = sequence_of(some[FETCHED])
  end
end

local channels = {}
for i = 2, #KEYS, 2 do
  local stream = KEYS[i + 1]
  local row = redis.call('HMGET', KEYS[i], 'last', 'finished', 'event', 'trimmed')
  local found = false
  if row[1] then
    local trimmed = mark_of(stream, tonumber(row[4]), history, max_age)
    local shown = redis.call('XREVRANGE', stream, '+', integer(trimmed + 1), 'COUNT', 1)[1]
    if not shown then
      trimmed = math.max(trimmed, tonumber(row[3] or 0))  -- the stream may have expired as a whole
    end
    local places, frames = {}, {}
    if after then
      places, frames = entries_of(stream, math.max(after, trimmed))
    end
    found = {
      integer(trimmed), row[2], shown and integer(sequence_of(shown)) or '0',
      table.concat(places, ' '), table.concat(frames),
    }
  end
  channels[#channels + 1] = found
end
return {epoch, integer(newest), forgotten, channels}

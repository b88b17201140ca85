-- Append entries to channels, trim these, tell who listens.
-- KEYS: the log, the channels by age, the channels by name, then a state and a stream for each channel
-- ARGV: how many events to keep (-1: all), their age in ms (-1: any), the epoch and the newest sequence that the caller knows, an
--       epoch in case that a new one is due; the number of the database, as notifications don't know of databases; the channels;
--       for each entry which of the channels it is for, its kind, head and tail of its frame
-- Returns the epoch, the sequences of the entries (for a finish that changed nothing, that of the entry before; 0: it failed),
-- and why those failed that did, in order.
local log, ages, names = KEYS[1], KEYS[2], KEYS[3]
local history, max_age = tonumber(ARGV[1]), tonumber(ARGV[2])
local database = ARGV[6]
local FINISH = 3
-- Entries of a channel dropped in one call: more than were appended only where a process that kept more was here before, or of
-- what is too old.
local DROPPED = 200
local NOT_STORED = '; the event is not stored'

local epoch, newest, at, forgotten = open_log(log, ARGV[3], ARGV[4], ARGV[5])
local now = clock()
at = math.max(at, now)  -- clocks may be set back, the log's time isn't
local time = integer(at)

-- Bytes of a frame as it is sent, its id included.
local function size_of(sequence, head, tail)
  return #head + #tail + #epoch + #sequence + #'id: -\n'
end

local function failure_of(reply)
  return type(reply) == 'table' and reply.err
end

local channels = {}
for i = 1, (#KEYS - 3) / 2 do
  local state = KEYS[2 * i + 2]
  local row = redis.pcall('HMGET', state, 'last', 'finished', 'event', 'published', 'size')
  channels[i] = {
    name = ARGV[6 + i], state = state, stream = KEYS[2 * i + 3], failure = failure_of(row),
    known = row[1], last = row[1], finished = row[2] == '1', event = row[3], published = tonumber(row[4] or 0),
    size = tonumber(row[5] or 0), changed = false, added = 0, added_size = 0,
  }
end

local function add(channel, sequence, kind, head, tail)
  return failure_of(redis.pcall('XADD', channel.stream, sequence .. '-' .. time, 'k', kind, 'h', head, 't', tail))
end

-- One that fails, because something else is stored under its key, fails alone; and so does the first where memory is full, but
-- then all do.
local function append(channel, kind, head, tail)
  if channel.failure then
    return nil, channel.failure .. NOT_STORED
  end
  if kind == FINISH and channel.finished then
    return channel.last
  end
  local sequence = integer(newest + 1)
  local failure
  if kind == FINISH then
    failure = failure_of(redis.pcall('HSET', channel.state, 'last', sequence))
  else
    failure = add(channel, sequence, kind, head, tail)
    if failure and string.find(failure, 'equal or smaller', 1, true) then  -- the log was set back, its channels were not
      newest = leap(math.max(newest, tonumber(channel.last or 0)))
      sequence = integer(newest + 1)
      failure = add(channel, sequence, kind, head, tail)
    end
  end
  if failure then
    return nil, failure .. NOT_STORED
  end
  newest = newest + 1
  local before = channel.last or '0'
  channel.last, channel.finished, channel.changed = sequence, kind == FINISH, true
  if kind ~= FINISH then
    channel.newest, channel.added = sequence, channel.added + 1
    channel.added_size = channel.added_size + size_of(sequence, head, tail)
  end
  local place = table.concat({epoch, before, sequence, time, kind, #head}, ' ')
  failure = failure_of(redis.pcall('PUBLISH', channel.state .. '@' .. database, place .. '\n' .. head .. tail))
  if failure then
    return nil, failure .. '; the event is stored, but nobody was told'
  end
  return sequence
end

-- What is too old, or more than is kept. Returns the newest sequence dropped, and the size of all that were.
local function drop(stream, excess)
  local limit = max_age < 0 and 0 or now - max_age
  local cut, size, dropped, position, count = 0, 0, 0, '-', math.min(excess + 1, DROPPED)
  while count > 0 do
    local some = redis.call('XRANGE', stream, position, '+', 'COUNT', count)
    for _, entry in ipairs(some) do
      if dropped >= excess and time_of(entry) >= limit then
        return cut, size
      end
      dropped = dropped + 1
      cut = sequence_of(entry)
      size = size + size_of(integer(cut), entry[2][4], entry[2][6])
    end
    if #some < count then
      break
    end
    position, count = integer(cut + 1), math.min(2 * dropped, DROPPED - dropped)
  end
  return cut, size
end

local sequences, failures = {}, {}
for i = 7 + #channels, #ARGV, 4 do
  local sequence, failure = append(channels[tonumber(ARGV[i])], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3])
  sequences[#sequences + 1] = sequence or '0'
  failures[#failures + 1] = failure
end

local changed = {}
for _, channel in ipairs(channels) do
  if channel.changed then
    changed[#changed + 1] = channel
  end
end
if #changed > 0 then
  redis.call('HSET', log, 'newest', integer(newest), 'at', time)
end
local by_age, by_name = {}, {}
for _, channel in ipairs(changed) do
  local stream = channel.stream
  local fields = {'last', channel.last, 'finished', channel.finished and 1 or 0}
  local function set(field, value)
    fields[#fields + 1], fields[#fields + 2] = field, value
  end
  by_age[#by_age + 1], by_age[#by_age + 2] = at, channel.name
  local trimmed = not channel.known and forgotten
  if not channel.known then
    by_name[#by_name + 1], by_name[#by_name + 2] = 0, channel.name
  end
  if channel.added > 0 then
    local count = redis.call('XLEN', stream)
    if count == channel.added then  -- of all that was before nothing is left: the stream may have expired
      channel.size, trimmed = 0, channel.event or trimmed
    end
    local cut, size = drop(stream, history < 0 and 0 or math.max(0, count - history))
    if cut > 0 then
      redis.call('XTRIM', stream, 'MINID', integer(cut + 1))
      trimmed = integer(cut)
    end
    if max_age < 0 then
      redis.call('PERSIST', stream)
    else
      redis.call('PEXPIRE', stream, max_age + 1000)
    end
    set('event', channel.newest)
    set('published', integer(channel.published + channel.added))
    set('size', integer(channel.size + channel.added_size - size))
  end
  if trimmed then
    set('trimmed', trimmed)
  end
  redis.call('HSET', channel.state, unpack(fields))
end
if #by_name > 0 then
  redis.call('ZADD', names, unpack(by_name))
end
if #by_age > 0 then
  redis.call('ZADD', ages, unpack(by_age))
end

return {epoch, table.concat(sequences, ' '), unpack(failures)}

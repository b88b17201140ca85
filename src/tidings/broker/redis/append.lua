-- Append entries to channels, trim these, tell who listens.
-- KEYS: the log, the channels by age, the channels by name, then a state and a stream for each channel; if something of a run is
--       among the entries, then the runs that are running and the leases of their producers
-- ARGV: how many events to keep (-1: all), their age in ms (-1: any), the epoch and the newest sequence that the caller knows, an
--       epoch in case that a new one is due; the number of the database, as notifications don't know of databases; how many
--       channels there are, and their names; for each entry which of the channels it is for, its kind, head and tail of its frame
-- In front of what a run gave stands a line of the same form: the channel, RUN, the run's id, and the terms on which the entries
-- that follow are appended, all of them or none: how many events of the run come before ('-': any number), how many entries
-- follow, how many of them are events, the state in which the run ends with them ('-': it doesn't), the mark that the lease of
-- its producer must have ('-': any).
-- Returns the epoch, the newest sequence, an answer for each entry that is none of a run's, and for each run, and why those failed
-- that did, in order. An answer is the sequence of the entry (for a finish that changed nothing, that of the entry before); for a
-- run 1, or -1 if it wasn't running; 0: it failed.
local log, ages, names = KEYS[1], KEYS[2], KEYS[3]
local history, max_age = tonumber(ARGV[1]), tonumber(ARGV[2])
local database = ARGV[6]
local FINISH, RUN = 3, 4
-- Entries of a channel dropped in one call beyond as many as were appended: where a process that kept more was here before, or of
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
for i = 1, tonumber(ARGV[7]) do
  local state = KEYS[2 * i + 2]
  local row = redis.pcall('HMGET', state, 'last', 'finished', 'event', 'published', 'size')
  channels[i] = {
    name = ARGV[7 + i], state = state, stream = KEYS[2 * i + 3], failure = failure_of(row),
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
    return sequence, failure .. '; the event is stored, but nobody was told'
  end
  return sequence
end

-- What a run gave, and its end. The entries stand in ARGV from `first` on. Returns whether the run is running, or ended just so.
local ended = {}
local function extend(channel, run, first, after, entries, events, ending, mark)
  if channel.failure then
    return nil, channel.failure .. NOT_STORED
  end
  local row = redis.call('HMGET', channel.state, 'run', 'producer', 'state', 'events')
  if row[1] ~= run then
    return false
  end
  local stored = tonumber(row[4])
  if mark ~= '-' and (row[3] ~= 'running' or redis.pcall('ZSCORE', KEYS[#KEYS], row[2]) ~= mark) then
    return false
  end
  if row[3] ~= 'running' then  -- this and this very end may be stored already
    return row[3] == ending and (not after or stored >= after + events)
  end
  if after and after < stored then
    return true
  end
  local told
  for i = first, first + 4 * entries - 1, 4 do
    local sequence, failure = append(channel, tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3])
    if not sequence then  -- it is the first one: what fails is the first write, or none
      return nil, failure
    end
    told = told or failure
  end
  local fields = {'events', integer(math.max(stored, after or 0) + events)}  -- counted on, though some were lost
  if ending ~= '-' then
    fields[3], fields[4], fields[5], fields[6] = 'state', ending, 'since', time
  end
  local failure = (events > 0 or ending ~= '-') and failure_of(redis.pcall('HSET', channel.state, unpack(fields)))
  if failure then
    return nil, failure .. NOT_STORED
  end
  if ending ~= '-' then
    redis.pcall('ZREM', KEYS[#KEYS - 1], running_as(row[2], run, channel.name))
    ended[#ended + 1] = channel
  end
  return true, told
end

-- What is too old, or more than is kept, but not more than `most`. Returns the newest sequence dropped, and the size of all that
-- were.
local function drop(stream, excess, most)
  local limit = max_age < 0 and 0 or now - max_age
  local cut, size, dropped, position, count = 0, 0, 0, '-', math.min(excess + 1, most)
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
    position, count = integer(cut + 1), math.min(2 * dropped, most - dropped)
  end
  return cut, size
end

local answers, failures = {}, {}
local i = 8 + #channels
while i <= #ARGV do
  local channel, kind, head, tail = channels[tonumber(ARGV[i])], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local answer, failure
  i = i + 4
  if kind == RUN then
    local after, entries, events, ending, mark = string.match(tail, '(%S+) (%S+) (%S+) (%S+) (%S+)')
    answer, failure = extend(channel, head, i, tonumber(after), tonumber(entries), tonumber(events), ending, mark)
    answer = answer and '1' or '-1'
    i = i + 4 * tonumber(entries)
  else
    answer, failure = append(channel, kind, head, tail)
  end
  answers[#answers + 1] = failure and '0' or answer
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
    local cut, size = drop(stream, history < 0 and 0 or math.max(0, count - history), channel.added + DROPPED)
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
for _, channel in ipairs(ended) do  -- or what is recorded might be forgotten soon, or, without an entry, never
  by_age[#by_age + 1], by_age[#by_age + 2] = at, channel.name
end
if #by_name > 0 then
  redis.call('ZADD', names, unpack(by_name))
end
if #by_age > 0 then
  redis.call('ZADD', ages, unpack(by_age))
end

return {epoch, integer(newest), table.concat(answers, ' '), unpack(failures)}

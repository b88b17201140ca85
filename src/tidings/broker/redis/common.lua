-- What the scripts share; it stands in front of each of them.

local function integer(number)
  return string.format('%.0f', number)
end

-- An id of a stream is the sequence of an event and its time.
local function sequence_of(entry)
  return tonumber(string.match(entry[1], '^%d+'))
end

local function time_of(entry)
  return tonumber(string.match(entry[1], '%d+$'))
end

-- Microseconds since 1970.
local function fine_clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Milliseconds since 1970.
local function clock()
  return math.floor(fine_clock() / 1000)
end

-- A member of the set of what is running.
local function running_as(producer, run, channel)
  return producer .. '\0' .. run .. '\0' .. channel
end

-- A lease is the microsecond in which it runs out, which is its mark as well.
local function renew(leases, producer, microseconds)
  redis.call('ZADD', leases, integer(fine_clock() + microseconds), producer)
end

-- A sequence beyond all that were ever given out, whatever is left of the log.
local function leap(newest)
  return math.max(newest + 1, clock() * 1000)
end

-- Another one whenever the server is started.
local function run_of_server()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

-- The epoch, the newest sequence and more of the log.
-- Without an epoch everything was lost. With a newest sequence below the one that the caller was given a part of it was: the
-- server was restored from a copy, or a replica that was behind took over. Then it is another log from now on, so that no id
-- stands for two events; nor does one of those that are left in its channels, whose sequences stay. The same if it was given one
-- that the sequence has leapt over since, as others came first.
local function open_log(log, known_epoch, known_newest, new_epoch)
  local row = redis.call('HMGET', log, 'epoch', 'newest', 'at', 'forgotten', 'left', 'leapt')
  local epoch, newest, known = row[1], tonumber(row[2] or 0), tonumber(known_newest)
  local is_lost = newest < known or (tonumber(row[5] or 0) < known and known < tonumber(row[6] or 0))
  if not epoch or (epoch == known_epoch and is_lost) then
    epoch = new_epoch
    redis.call('HSET', log, 'epoch', epoch, 'run', run_of_server())
    if #redis.call('ZRANGEBYLEX', string.gsub(log, 'log$', 'names'), '-', '+', 'LIMIT', 0, 1) > 0 then
      newest = leap(newest)
      redis.call('HSET', log, 'newest', integer(newest))
    end
  end
  return epoch, newest, tonumber(row[3] or 0), row[4] or '0'
end

-- The newest event of a channel that isn't shown: dropped, one too many, or too old. `trimmed` is its mark so far.
local function mark_of(stream, trimmed, history, max_age)
  local hidden = history < 0 and 0 or redis.call('XLEN', stream) - history
  if hidden > 0 then
    local cut
    if hidden <= history then
      cut = redis.call('XRANGE', stream, '-', '+', 'COUNT', hidden)[hidden]
    else
      cut = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', history + 1)[history + 1]
    end
    trimmed = math.max(trimmed, sequence_of(cut))
  end
  if max_age >= 0 then
    local limit = clock() - max_age
    while true do
      local oldest = redis.call('XRANGE', stream, integer(trimmed + 1), '+', 'COUNT', 1)[1]
      if not oldest or time_of(oldest) >= limit then
        break
      end
      trimmed = sequence_of(oldest)
    end
  end
  return trimmed
end


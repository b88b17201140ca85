-- Record that a run has begun, and renew the lease of its producer.
-- KEYS: the channel's state, the runs that are running, the leases
-- ARGV: the channel, the run's id, its producer, for how many microseconds
-- Returns 0 if another run is running.
local state, running, leases = unpack(KEYS)
local channel, run, producer = ARGV[1], ARGV[2], ARGV[3]

local row = redis.call('HMGET', state, 'run', 'state', 'finished')
if row[1] ~= run and row[2] == 'running' then
  return 0
end
renew(leases, producer, ARGV[4])
if row[1] ~= run then
  redis.call('ZADD', running, 0, running_as(producer, run, channel))
  redis.call('HSET', state, 'run', run, 'producer', producer, 'state', 'running', 'since', clock(), 'events', 0)
  if row[3] == '1' then
    redis.call('HSET', state, 'finished', 0)
  end
end
return 1

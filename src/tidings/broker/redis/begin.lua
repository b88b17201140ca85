-- What is done before the other scripts are loaded: a server that doesn't know them was started again, or took over from
-- another one. Nobody may know whether it has everything that was acknowledged. So the sequence leaps to the clock, in
-- microseconds: what is appended from now on has ids that were never given out, whatever copy the server began with.
-- KEYS: the log
-- ARGV: the epoch and the newest sequence that the caller knows, an epoch in case that a new one is due
local log = KEYS[1]

local _, newest = open_log(log, ARGV[1], ARGV[2], ARGV[3])
local run = run_of_server()
if redis.call('HGET', log, 'run') ~= run then
  local leapt = integer(leap(newest))
  redis.call('HSET', log, 'run', run, 'newest', leapt, 'left', integer(newest), 'leapt', leapt)
end

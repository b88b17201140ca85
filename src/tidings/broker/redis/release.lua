-- Take away the lease of a producer that is lost, when it runs nothing more.
-- KEYS: the leases, the runs that are running
-- ARGV: the producer, the mark that its lease must have, which of its runs have ended
local leases, running = KEYS[1], KEYS[2]
local producer, mark = ARGV[1], ARGV[2]

if redis.call('ZSCORE', leases, producer) == mark then
  for i = 3, #ARGV do  -- their ends did that already, but not if their channels were lost
    redis.call('ZREM', running, ARGV[i])
  end
  if #redis.call('ZRANGEBYLEX', running, '[' .. producer .. '\0', '(' .. producer .. '\1', 'LIMIT', 0, 1) == 0 then
    redis.call('ZREM', leases, producer)
  end
end

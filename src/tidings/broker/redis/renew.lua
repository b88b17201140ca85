-- Renew the lease of a producer.
-- KEYS: the leases
-- ARGV: the producer, for how many microseconds
-- Returns 0 if there was none.
local leases, producer = KEYS[1], ARGV[1]

-- Taken away first: behind a write that frees memory the server takes another one, though its memory is full. A producer that can
-- store nothing is alive all the same.
if redis.call('ZREM', leases, producer) == 0 then
  return 0
end
renew(leases, producer, ARGV[2])
return 1

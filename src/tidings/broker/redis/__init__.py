"""The log in Redis or Valkey, shared by processes of many machines.

Scripts run in the server, so that each is one step: `append.lua` gives an entry its place, stores it and tells who
listens, after `begin.lua` has seen to it that no id is given twice; `page.lua` reads some channels at one moment,
`list.lua` what there is of them; `forget.lua` drops the marks of a channel long unused. `start.lua` records that a
background stream runs, `renew.lua` and `release.lua` keep the lease of who runs it; what it gives, and its end, is
appended as everything else is. `keys` says where everything is kept, `known` what this process knows of the log,
`server` how the server is reached, `publisher` sends what is to be appended, many at a time, `listener` hears of what
was appended, `keeper` forgets, `runs` records background streams.
"""

from tidings.broker.redis.storage import RedisStorage

__all__ = ["RedisStorage"]

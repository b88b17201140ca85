"""Background streams: sources that go on when nobody reads.

A `Runner` drives one source and writes what it gives to the log. The `Producer` has all runners of a process: it
starts them, stops them when another process asks for it, and ends them when the broker is closed. `leases` keeps the
producer's lease as long as it has runners, and ends the runs of producers whose lease has run out. `endings` says how a
run may end.

A run is recorded in the storage. Its id is a fencing token: the storage appends nothing for a run that isn't the one
that is running. So whoever ends a run has the last word, however late its producer wakes up.
"""

__all__: list[str] = []

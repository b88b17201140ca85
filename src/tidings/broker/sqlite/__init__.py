"""The log in an SQLite file, shared by all processes of a machine, with no server to run.

Three threads, each with a connection: the writer appends, many entries in one transaction; the reader reads pages, and
feeds what any process has appended; the keeper drops what is too old and keeps the write-ahead log short. `appending`,
`runs`, `pages`, `listing` and `trimming` say what is done with a connection, `database` how the file is opened and what
its errors mean.
"""

from tidings.broker.sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]

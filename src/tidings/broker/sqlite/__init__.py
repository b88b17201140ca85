"""The log in an SQLite file, shared by all processes of a machine; no server to run.

    storage    ties the three threads together
    writer     a thread that appends, many entries in one transaction
    reader     a thread that reads pages, and feeds what any process has appended
    keeper     a thread that drops what is too old, and keeps the write-ahead log short
    worker     what the three have in common: a connection and an inbox
    database   the file: how it is opened, who may use it, what its errors mean
    schema     its tables, version by version
    appending  pages  trimming    what is done with it, as functions of a connection
"""

from tidings.broker.sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]

"""The modules of the storage on Redis, each by itself, against a real server."""

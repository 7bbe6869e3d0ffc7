"""``penstock shards``: lists and changes the shards of a stream, and skips a record."""

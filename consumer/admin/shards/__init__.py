"""A stream's shards, for operators: what they carry, and how to split, merge and count them anew."""

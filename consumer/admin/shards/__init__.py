"""A stream's shards, for operators: their load and readers, and plans to split, merge and scale them."""

"""How many records may become dead letters, and what may be said of them."""

"""How many records may become dead letters, and what may be shown of them."""

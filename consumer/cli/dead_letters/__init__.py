"""``penstock dead-letters``: lists, shows and redrives dead letters."""

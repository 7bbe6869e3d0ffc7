"""``penstock replay``: a module for each way to read records again."""

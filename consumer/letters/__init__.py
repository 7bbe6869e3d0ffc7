"""Reads, filters and shows dead letters, and redrives them through the model into the table."""

"""Measurements: each a ratio of runs taken in turns in one session. `make bench` runs them all."""

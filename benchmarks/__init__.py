"""Measurements. Each is a ratio of runs that take turns in one session. `make bench` runs them all."""

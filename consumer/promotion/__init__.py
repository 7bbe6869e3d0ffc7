"""Compares a new model with the present one: both answer the same records."""

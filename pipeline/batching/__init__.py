"""Decides which records go to the model together, and how many."""

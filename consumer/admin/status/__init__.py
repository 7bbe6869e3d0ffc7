"""The state of an application at a glance: what was read, and what follows from it."""

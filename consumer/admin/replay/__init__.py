"""Replays: a slice beside the application, a rewind of the application itself, an archive put back on a stream."""

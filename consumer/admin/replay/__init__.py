"""Reading again: a slice beside the application, the application itself, and an archive put back on a stream."""

"""The HTTP endpoint of a task: health and metrics."""

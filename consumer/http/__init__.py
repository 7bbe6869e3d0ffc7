"""The task's page: health, metrics."""

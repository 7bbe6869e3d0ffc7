"""What operators do to an application from outside."""

"""Commands of operators on an application, from outside of it."""

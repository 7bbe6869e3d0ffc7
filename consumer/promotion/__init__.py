"""Whether a new model may follow an old one: both answer the same records, and the answers are compared."""

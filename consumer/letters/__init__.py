"""Dead letters after the fact: read, filtered, shown, and redriven through the model into the table."""

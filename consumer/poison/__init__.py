"""How the application gets past a record that kills every task that reads it."""

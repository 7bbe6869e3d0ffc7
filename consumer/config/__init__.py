"""What a user may write, what is wrong with it, and what ``auto`` comes to."""

"""An application at a glance: what was read of it, and what follows from that."""

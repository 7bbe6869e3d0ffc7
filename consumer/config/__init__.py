"""The configuration: its settings, its checks, and how ``auto`` is resolved."""

"""``penstock leases``: lists, shows, releases, resets and restores leases."""

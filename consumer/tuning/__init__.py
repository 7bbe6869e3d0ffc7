"""``penstock tune``: which replicas, threads and batches are best here."""

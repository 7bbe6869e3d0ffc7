"""``penstock tune``: measures which replicas, threads and batches are best."""

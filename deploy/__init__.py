"""How Penstock is put on AWS: templates as data, and the runbook."""

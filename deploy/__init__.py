"""The templates and parameters of a deployment on AWS, and the runbook."""

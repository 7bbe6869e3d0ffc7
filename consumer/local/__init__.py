"""An AWS on this machine: Kinesis of our own, and DynamoDB, S3, CloudWatch and the rest from moto, on one port."""

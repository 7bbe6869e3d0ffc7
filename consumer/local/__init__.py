"""A local AWS on one port: Penstock's own Kinesis; DynamoDB, S3, CloudWatch and other services from moto."""

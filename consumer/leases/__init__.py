"""KCL's tables in DynamoDB: who has which shard."""

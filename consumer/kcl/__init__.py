"""KCL's JVM, its bridges and their protocol, and one session for each shard."""

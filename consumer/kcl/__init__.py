"""The JVM of KCL, its bridges, their protocol, and one session for each shard."""

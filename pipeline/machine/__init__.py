"""The resources of this container: cores, GPUs, memory."""

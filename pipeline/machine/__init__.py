"""What this container has: cores, GPUs, memory."""

"""What runs in a model's process: its keeper, the frames it speaks, the user's model, a limit on its memory."""

"""The model's process: its keeper, the frames it exchanges with the host, the user's model, a limit on its memory."""

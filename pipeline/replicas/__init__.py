"""The host's side of the model's processes: started, given batches, judged, replaced."""

"""What :mod:`pipeline.stage` is made of: lanes, bounds, the dispatch of batches, reports of what goes wrong."""

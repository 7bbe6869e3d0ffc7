"""The parts of :mod:`pipeline.stage`: lanes, bounds, the dispatch of batches, reports of problems."""

"""Records in, enriched records out: everything that knows nothing of KCL.

Start reading at :mod:`pipeline.stage`.
"""

"""Turns records into enriched rows: everything that does not depend on KCL.

Start reading at :mod:`pipeline.stage`.
"""

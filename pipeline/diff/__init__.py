"""Compares two tables record by record, in bounded memory: after a replay, for a new release, for another batch
size.
"""

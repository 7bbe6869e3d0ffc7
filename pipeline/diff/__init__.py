"""Two tables compared record by record, in bounded memory: for a replay, a new release, another batch size."""

"""``penstock demo``: the whole application on one machine, with real text and a real model."""

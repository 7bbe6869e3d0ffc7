"""``python -m consumer.cli``: the same as ``penstock``."""

from consumer.cli import main

main(prog_name="penstock")

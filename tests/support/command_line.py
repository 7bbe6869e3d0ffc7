"""Runs commands in this process, and a configuration for them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from consumer.cli import main

GOOD = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "examples.minilm:MiniLM"
version = "1"
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
"""


def penstock(*words: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="penstock", env=env)

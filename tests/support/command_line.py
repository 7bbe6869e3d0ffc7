"""Runs commands in this process, and a configuration for them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from consumer.cli import main
from tests.support.least_configuration import LEAST

GOOD = LEAST.replace("s3://bucket/enriched", "out").replace("s3://bucket/dead-letter", "dead")
"""With folders in place of S3."""


def penstock(*words: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="penstock", env=env)

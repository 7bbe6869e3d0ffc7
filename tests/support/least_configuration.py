"""The least configuration, and what is told about changes to it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from consumer.config.errors import ConfigErrors
from consumer.config.load import parse

LEAST = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "examples.minilm:MiniLM"
version = "1"
[[sink]]
type = "parquet"
url = "s3://bucket/enriched"
[dead_letter]
url = "s3://bucket/dead-letter"
"""


def told(changes: str = "", env: Mapping[str, str] | None = None, *, least: str = LEAST) -> list[str]:
    """The mistakes of a minimal configuration with sections added or, under the same name, replaced."""
    raw: dict[str, Any] = tomllib.loads(least)
    for section, value in tomllib.loads(changes).items():
        is_table = isinstance(value, dict) and isinstance(raw.get(section), dict)
        raw[section] = raw[section] | value if is_table else value
    try:
        parse(raw, env or {})
    except ConfigErrors as errors:
        return [str(error) for error in errors.errors]
    return []

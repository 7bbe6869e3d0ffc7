"""Options of the dead-letter commands: where the letters are, and which are selected."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from consumer.cli.options import STORE_URL, TIME, config_option, in_order
from consumer.cli.selection import WHERE
from pipeline.record import REASONS


def places_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--config``, or ``--url`` with ``--table``; the command gets ``places``."""

    @config_option("The configuration that names the dead letters and the table.")
    @click.option("--url", type=STORE_URL, metavar="URL", help="The URL of the dead letters, instead of --config.")
    @click.option(
        "--table", type=STORE_URL, metavar="URL", help="With --url: the table, which says which letters are redriven."
    )
    @functools.wraps(command)
    def with_places(*args: Any, config_path: Path | None, url: str | None, table: str | None, **options: Any) -> Any:
        from consumer.letters.places import places_of

        return command(*args, places=places_of(config_path, url, table), **options)

    return with_places


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the filters; the command gets ``chosen``."""

    @click.option(
        "--kind",
        type=click.Choice(sorted(REASONS)),
        metavar="KIND",
        help="Only letters of this kind, such as timeout; docs/dead-letters.md has all kinds.",
    )
    @click.option("--reason", default="", metavar="TEXT", help="Only letters whose reason contains this text.")
    @click.option("--shard", "shard_id", default="", metavar="SHARD", help="Only records of this shard.")
    @click.option("--model-version", default="", metavar="VERSION", help="Only letters of this model.version.")
    @click.option("--from", "since", type=TIME, help="Only records that arrived at this time or later.")
    @click.option("--to", "until", type=TIME, help="Only records that arrived before this time.")
    @click.option(
        "--where",
        type=WHERE,
        help="Only letters for which this JMESPath expression is true. It sees the letter's fields, and the payload as "
        "data if it is JSON, else as data_text.",
    )
    @functools.wraps(command)
    def with_filter(*args: Any, **options: Any) -> Any:
        from consumer.letters.letter import LetterFilter

        in_order(options["since"], options["until"])
        options["kind"] = options["kind"] or ""
        names = ("kind", "reason", "shard_id", "model_version", "since", "until", "where")
        return command(*args, chosen=LetterFilter(**{name: options.pop(name) for name in names}), **options)

    return with_filter

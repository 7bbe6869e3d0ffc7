"""Names of columns that every common reader of Parquet can take. Plain: the configuration is checked with it, too."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pipeline.errors import ConfigError

OWN = (
    "record_id",
    "shard_id",
    "sequence_number",
    "sub_sequence_number",
    "partition_key",
    "arrived_at",
    "processed_at",
    "model_version",
)
"""Penstock's own columns."""

SPARK_FORBIDS = " ,;{}()\n\t="
"""Spark's own list: it refuses to read a table with a name that has one of these."""

FOLDERS = ("dt",)
"""Readers make columns of the folders' names."""

KNOW_NO_CASE = "to Spark and DuckDB, which know no case"
OUTPUT = "model.output_schema"
"""Names the culprit in an error, as the keys of the configuration do."""
PASSTHROUGH = "model.passthrough"

_RENAME = {OUTPUT: "Rename it in output_schema.", PASSTHROUGH: "Rename it in the payload, or carry it no more."}


def check(names: Iterable[str], passthrough: Collection[str] = ()) -> None:
    """Of columns beside Penstock's own. ``passthrough``: those that come of ``model.passthrough``.

    :raises ConfigError: its key says whose column it is.
    """
    taken = {name.casefold(): "is Penstock's own" for name in OWN}
    taken |= {name.casefold(): "is one of the table's folders" for name in FOLDERS}
    for name in names:
        whose = PASSTHROUGH if name in passthrough else OUTPUT
        if why := taken.get(name.casefold()):
            raise wrong(whose, f"column {name!r} {why} {KNOW_NO_CASE}")
        if name.startswith("_"):
            raise wrong(whose, f"column {name!r} begins with _, which readers of Parquet skip")
        check_letters([name], "column", whose)
        taken[name.casefold()] = "is there twice"


def check_letters(names: Iterable[str], what: str, whose: str) -> None:
    """Of columns, or of fields in one. Raises ``ConfigError``."""
    for name in names:
        if not name:
            raise ConfigError(whose, f"{what} '' has no name, and Spark, Athena and DuckDB want one", "Name it.")
        if any(letter in SPARK_FORBIDS or not letter.isprintable() for letter in name):
            raise wrong(whose, f"{what} {name!r} has a character that Spark and Athena cannot read")


def wrong(whose: str, problem: str) -> ConfigError:
    return ConfigError(whose, problem, _RENAME[whose])

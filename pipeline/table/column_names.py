"""Column names that every common reader of Parquet accepts. Imports no pyarrow: ``config check`` uses it, too."""

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
"""Spark refuses to read a table with a column name that contains one of these characters (from Spark's source)."""

FOLDERS = ("dt",)
"""Readers derive a column from the name of each partition folder."""

KNOW_NO_CASE = "(Spark and DuckDB ignore case)"
OUTPUT = "model.output_schema"
"""The culprit that an error names, in the form of a configuration key."""
PASSTHROUGH = "model.passthrough"

_RENAME = {OUTPUT: "Rename it in output_schema.", PASSTHROUGH: "Rename it in the payload, or stop carrying it."}


def check(names: Iterable[str], passthrough: Collection[str] = ()) -> None:
    """Check the names of the columns beside Penstock's own. ``passthrough``: those that come from
    ``model.passthrough``.

    :raises ConfigError: a name is taken or unreadable; its key says whether the model or the payload brought it.
    """
    taken = {name.casefold(): "has the name of one of Penstock's own" for name in OWN}
    taken |= {
        name.casefold(): "has the name of the table's folders, which readers show as a column" for name in FOLDERS
    }
    for name in names:
        whose = PASSTHROUGH if name in passthrough else OUTPUT
        if why := taken.get(name.casefold()):
            raise wrong(whose, f"column {name!r} {why} {KNOW_NO_CASE}")
        if name.startswith("_"):
            raise wrong(whose, f"column {name!r} starts with _; readers of Parquet skip such columns")
        check_letters([name], "column", whose)
        taken[name.casefold()] = "is there twice"


def check_letters(names: Iterable[str], what: str, whose: str) -> None:
    """Check the characters of the names of columns, or of the fields in one. ``what`` begins the error's text.

    :raises ConfigError: a name is empty or has a character that a reader cannot take.
    """
    for name in names:
        if not name:
            raise ConfigError(whose, f"{what} '' has no name; Spark, Athena and DuckDB require one", "Name it.")
        if any(letter in SPARK_FORBIDS or not letter.isprintable() for letter in name):
            raise wrong(whose, f"{what} {name!r} has a character that Spark and Athena cannot read")


def wrong(whose: str, problem: str) -> ConfigError:
    """Make (not raise) the error for a column that ``whose`` brought, with the fix for it."""
    return ConfigError(whose, problem, _RENAME[whose])

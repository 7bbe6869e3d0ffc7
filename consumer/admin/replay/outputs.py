"""The effects of a rewind on the application's sinks. Pure.

A Parquet table has one row for each record that was read, and a worker skips a record that the table already has. So
records that are read again need a new table, which the application's configuration must name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from consumer.config.settings import Settings
from consumer.config.sink_settings import ParquetSettings
from pipeline.errors import RefusedError


def notes_of(
    settings: Settings | None,
    url: str | None,
    *,
    goes_back: bool,
    forward: bool,
    online: bool,
    holds: Callable[[str], bool],
    undoes: bool = False,
    read_since: Sequence[str] = (),
) -> list[str]:
    """Return what an operator must know about each sink, one line each. ``holds`` returns whether there are files at a
    URL.

    :param settings: the application's; None if unknown.
    :param url: the new table, if given. ``goes_back``: records are read again; ``forward``: some are not read.
    :param undoes: a move that skipped records is undone; ``read_since``: the shards that workers have read after it.
    :raises RefusedError: a table would skip records that are read again, or would have some of them twice.
    """
    if settings is None:
        return ["the sinks are unknown without --config. A Parquet table skips every record that it holds"]
    tables = [_plain(sink.url) for sink in settings.sink if isinstance(sink, ParquetSettings)]
    streams = [sink.stream for sink in settings.sink if not isinstance(sink, ParquetSettings)]
    if undoes:
        _refuse_read(tables, read_since, online=online)
        again = " and, a second time, those of records that were read since" if read_since or online else ""
        return [
            *(f"table {table}: gets the rows of the records that were skipped" for table in tables),
            *(f"stream {stream}: gets the rows of the records that were skipped{again}" for stream in streams),
        ]
    if goes_back:
        _refuse(tables, url and _plain(url), online=online, holds=holds)
        return [
            *(
                f"table {table}: is new, and gets the rows of all records that are read from then on"
                for table in tables
            ),
            *(f"stream {stream}: gets the rows of records that are read again a second time" for stream in streams),
        ]
    if forward:
        return [
            f"table {table}: never gets the rows of skipped records; penstock audit reports them" for table in tables
        ]
    return []


def _refuse(tables: list[str], url: str | None, *, online: bool, holds: Callable[[str], bool]) -> None:
    if not tables:
        return
    if url is None:
        raise RefusedError(
            f"table {tables[0]} holds the records that would be read again, and skips them. Set the sink's url "
            "to a new one in the configuration and give it with --url as well, or read the slice beside the "
            "application with --from, --to and --url"
        )
    if others := [table for table in tables if table != url]:
        raise RefusedError(
            f"the configuration writes to {others[0]}, not to {url}: its table would skip records that are read again. "
            f"Set the sink's url to {url} in the configuration"
        )
    if online:
        raise RefusedError(
            "running workers have written to their table already, and would write some records twice. Stop "
            "every worker and leave --online out, or read the slice with --from, --to and --url"
        )
    if holds(url):
        raise RefusedError(
            f"table {url} already has files, and would hold some records twice. Name a url without files"
        )


def _refuse_read(tables: list[str], shards: Sequence[str], *, online: bool) -> None:
    """A table has no rows of skipped records. But it has rows of records that were read after them since."""
    if tables and (shards or online):
        read = f"shard {shards[0]} has been read since the move" if shards else "workers read on while leases move"
        raise RefusedError(
            f"{read}, and table {tables[0]} would hold those records twice. Read the skipped records into a table of "
            "their own with --from, --to and --url"
            + ("" if shards else ", or stop every worker and leave --online out")
        )


def _plain(url: str) -> str:
    return url.rstrip("/")

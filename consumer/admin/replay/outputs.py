"""What a rewind means for where the application writes. Pure.

A Parquet table holds one row for each record that was read, and passes over a record that it holds. So records that are
read again need a table of their own, which the application's configuration names.
"""

from __future__ import annotations

from collections.abc import Callable

from consumer.config.settings import ParquetSettings, Settings
from pipeline.errors import RefusedError


def notes_of(
    settings: Settings | None,
    url: str | None,
    *,
    goes_back: bool,
    forward: bool,
    online: bool,
    holds: Callable[[str], bool],
) -> list[str]:
    """What an operator must know of each sink, a line each. ``holds`` says whether there are files at a URL.

    :param settings: the application's; None: nobody knows where it writes.
    :param url: the new table, if one is given. ``goes_back``: records are read again; ``forward``: some are not read.
    :raises RefusedError: a table would pass over what is read again, or would hold some of it twice.
    """
    if settings is None:
        return ["where it writes is unknown without --config: a Parquet table passes over every record that it holds"]
    tables = [_plain(sink.url) for sink in settings.sink if isinstance(sink, ParquetSettings)]
    streams = [sink.stream for sink in settings.sink if not isinstance(sink, ParquetSettings)]
    if goes_back:
        _refuse(tables, url and _plain(url), online=online, holds=holds)
        return [
            *(f"table {table}: is new, and gets the rows of everything that is read from then on" for table in tables),
            *(f"stream {stream}: gets the rows of what is read again a second time" for stream in streams),
        ]
    if forward:
        return [f"table {table}: never gets the rows of what is passed over; penstock audit tells" for table in tables]
    return []


def _refuse(tables: list[str], url: str | None, *, online: bool, holds: Callable[[str], bool]) -> None:
    if not tables:
        return
    if url is None:
        raise RefusedError(
            f"table {tables[0]} holds the records that would be read again, and passes over them. Set the sink's url "
            "to a new one in the configuration and give it with --url as well, or read the slice beside the "
            "application with --from, --to and --url"
        )
    if others := [table for table in tables if table != url]:
        raise RefusedError(
            f"the configuration writes to {others[0]}, not to {url}: its table would pass over what is read again. Set "
            f"the sink's url to {url} in the configuration"
        )
    if online:
        raise RefusedError(
            "workers that run have written their table already, and would write some records into it twice. Stop "
            "every worker and leave --online out, or read the slice with --from, --to and --url"
        )
    if holds(url):
        raise RefusedError(
            f"table {url} has files already, and would hold some records twice. Name a url without files"
        )


def _plain(url: str) -> str:
    return url.rstrip("/")

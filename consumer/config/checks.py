"""Checks that span sections: arithmetic between settings, and clashes between URLs or streams.

A check looks only at sections that are valid by themselves, so one run reports every mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from consumer.config.drain import mistakes
from consumer.config.kcl_properties import check
from pipeline.errors import ConfigError
from pipeline.table.names import ASIDE, REDRIVES, STAGED, SUSPECTS

if TYPE_CHECKING:
    from consumer.config.model_settings import ModelSettings
    from consumer.config.settings import DrainSettings, HealthSettings, KclSettings, StreamSettings
    from consumer.config.sink_settings import DeadLetterSettings

DERIVED = (STAGED, SUSPECTS, REDRIVES)
"""What is appended to the URL of dead letters."""


def across(sections: Mapping[str, Any]) -> list[ConfigError]:
    """Return every mistake between sections. A section that is invalid by itself is passed as None and skipped."""
    sinks = list(enumerate(sections["sink"]))
    return [
        *_drain(sections["kcl"], sections["drain"]),
        *_timeout(sections["model"], sections["drain"]),
        *_stuck(sections["model"], sections["health"]),
        *_loops(sections["stream"], sinks),
        *_nested(sinks, sections["dead_letter"]),
        *_leases(sections["kcl"]),
        *_properties(sections["kcl"]),
    ]


def _drain(kcl: KclSettings | None, drain: DrainSettings | None) -> Iterator[ConfigError]:
    if kcl is not None and drain is not None:
        yield from mistakes(kcl, drain)


def _timeout(model: ModelSettings | None, drain: DrainSettings | None) -> Iterator[ConfigError]:
    if (
        model is not None
        and drain is not None
        and drain.longest_batch_s != "auto"
        and drain.longest_batch_s > model.timeout_s
    ):
        yield ConfigError(
            "drain.longest_batch_s",
            f"a full batch takes {drain.longest_batch_s:g} s, longer than model.timeout_s ({model.timeout_s:g} s)",
            "Raise model.timeout_s, or lower batch.max_records and drain.longest_batch_s",
        )


def _stuck(model: ModelSettings | None, health: HealthSettings | None) -> Iterator[ConfigError]:
    if model is not None and health is not None and health.stuck_after_s <= model.timeout_s:
        yield ConfigError(
            "health.stuck_after_s",
            f"{health.stuck_after_s:g} s must be more than model.timeout_s ({model.timeout_s:g} s)",
            "Raise it, because one batch may take up to model.timeout_s",
        )


def _loops(stream: StreamSettings | None, sinks: list[tuple[int, Any]]) -> Iterator[ConfigError]:
    seen: dict[str, int] = {}
    for place, sink in sinks:
        if sink is None or sink.type != "kinesis":
            continue
        if stream is not None and sink.stream == stream.name:
            problem = f'"{sink.stream}" is also the input stream, which would be an endless loop'
            yield ConfigError(f"sink.{place}.stream", problem, "Name another stream")
        if (other := seen.setdefault(sink.stream, place)) != place:
            problem = f'sink.{other} already writes to "{sink.stream}"'
            yield ConfigError(f"sink.{place}.stream", problem, "Remove one of them")


def _nested(sinks: list[tuple[int, Any]], dead_letter: DeadLetterSettings | None) -> Iterator[ConfigError]:
    """Refuse a prefix inside another, with symbolic links resolved: a reader of a prefix reads everything below it."""
    urls = [(f"sink.{place}.url", sink.url) for place, sink in sinks if sink is not None and sink.type == "parquet"]
    if dead_letter is not None:
        derived = [f"{dead_letter.url.rstrip('/')}{ending}" for ending in DERIVED]
        urls += [("dead_letter.url", url) for url in (dead_letter.url, *derived)]
    asides = [(key, f"{url.rstrip('/')}{ASIDE}") for key, url in urls if not url.startswith("s3://")]
    places = [(key, url, _place(url)) for key, url in (*urls, *asides)]
    reported = set()
    for (one, url, place), (other, other_url, other_place) in combinations(places, 2):
        if (one, other) not in reported and _overlap(place, other_place):
            reported |= {(one, other), (other, one)}
            problem = f'"{other_url}" and {one} "{url}" are the same or one contains the other'
            yield ConfigError(other, problem, "Use separate prefixes")


def clash(one: str, other: str) -> bool:
    """Whether two URLs are the same place, or one contains the other. Folders are found as a worker finds them, from
    the working directory, and with symbolic links resolved.
    """
    return _overlap(_place(one), _place(other))


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _place(url: str) -> str:
    if not url.startswith("s3://"):
        return f"{os.path.realpath(url).rstrip('/')}/"
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return "/".join(("s3:/", bucket, *filter(None, [prefix.strip("/")]), ""))


def written(table: str | None, letters: str) -> list[str]:
    """The URLs that a task writes below: a table, dead letters, and what Penstock derives from each."""
    urls = [*([table] if table else []), letters, *(f"{letters.rstrip('/')}{ending}" for ending in DERIVED)]
    return [*urls, *(f"{url.rstrip('/')}{ASIDE}" for url in urls if not url.startswith("s3://"))]


def _leases(kcl: KclSettings | None) -> Iterator[ConfigError]:
    if kcl is not None and kcl.idle_between_reads_ms * 2 >= kcl.failover_ms:
        yield ConfigError(
            "kcl.failover_ms",
            f"{kcl.failover_ms} ms must be more than twice kcl.idle_between_reads_ms ({kcl.idle_between_reads_ms} ms)",
            "Raise it, because leases would expire between two reads",
        )


def _properties(kcl: KclSettings | None) -> Iterator[ConfigError]:
    """Check each property: KCL silently ignores a misspelt one."""
    for name, value in kcl.properties.items() if kcl is not None else ():
        try:
            check({name: value})
        except ConfigError as error:
            yield ConfigError(f"kcl.properties.{name}", error.problem, error.fix.removesuffix("."))

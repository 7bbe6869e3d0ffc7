"""Plans the replay of a slice as a separate application: its name, its settings, and where it must not write.

Pure, except that symbolic links of folders are resolved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

from consumer.aws.shards import KnownShard
from consumer.config.checks import clash, written
from consumer.config.kcl_properties import MAX_RECORDS
from consumer.config.names import APPLICATION
from consumer.config.settings import Settings
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from consumer.kcl.bounded import Slice
from pipeline.errors import RefusedError, UserError

LETTERS = ".dead-letters"
"""Appended to the table's URL for dead letters if no other URL is given for them."""


@dataclass(frozen=True, slots=True)
class SliceRequest:
    """The user's request. ``url``: a new Parquet table; ``streams``: Kinesis streams that get the rows."""

    begin: datetime
    end: datetime
    url: str | None = None
    streams: tuple[str, ...] = ()
    dead_letter: str | None = None
    shards: tuple[str, ...] = ()
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """``settings``: of the replay's application; ``first``: the shards that it starts with."""

    settings: Settings
    bounds: Slice
    first: tuple[str, ...]

    @property
    def application(self) -> str:
        """The name of its lease table."""
        return self.settings.stream.application


def plan(
    settings: Settings,
    created_s: int,
    known: Mapping[str, KnownShard],
    first: Sequence[str],
    request: SliceRequest,
    now: datetime,
) -> SlicePlan:
    """Plan the replay.

    :param settings: the application's, with its model and limits. ``created_s``: when the stream was created.
    :param first: the shards that were open at the start of the slice.
    :raises UserError: the request contradicts itself, or names a shard that does not exist.
    :raises RefusedError: it would write where the application writes, or to the stream that it reads.
    """
    if not request.begin < request.end:
        raise UserError("--from is not before --to")
    if request.begin > now:
        raise UserError("--from is in the future. Give an earlier time")
    if request.url is None and not request.streams:
        raise UserError("Give --url URL, a new table, or --sink kinesis:NAME, a stream for the rows")
    if unknown := sorted(set(request.shards) - known.keys()):
        raise UserError(f"stream {settings.stream.name} has no shard {unknown[0]} now")
    _refuse_own_outputs(settings, request)
    bounds = Slice(
        _ms(request.begin),
        _ms(request.end),
        frozenset(request.shards) or None,
        frozenset(_above(known, request.shards)),
        request.rate or 0.0,
    )
    return SlicePlan(_settings(settings, created_s, request), bounds, tuple(sorted(first)))


def refuse_used(planned: SlicePlan, *, begun: bool, holds: Callable[[str], bool]) -> None:
    """Refuse a table that is not the replay's own. ``begun``: the replay has leases, and continues.

    :raises RefusedError: there are files at the URL already.
    """
    for sink in planned.settings.sink:
        if isinstance(sink, ParquetSettings) and not begun and holds(sink.url):
            raise RefusedError(
                f"{sink.url} already has files, but no replay of this slice is in progress. Either it has finished, or "
                "a time such as '2h ago' now means a different time. To continue a replay, use the command that it "
                "printed; for a new one, name another --url"
            )


def made_of(planned: SlicePlan) -> dict[str, str]:
    """What must stay the same while a replay is interrupted and continued, by the names of the settings."""
    model = planned.settings.model
    return {
        "model.factory": model.factory,
        "model.version": model.version,
        "model.passthrough": json.dumps(model.passthrough, sort_keys=True),
        "dead_letter.url": planned.settings.dead_letter.url,
    }


def refuse_changed(planned: SlicePlan, noted: Mapping[str, str] | None) -> None:
    """Refuse to continue a replay with another model. ``noted``: what it began with; None: it has not begun.

    :raises RefusedError: names the difference.
    """
    now = made_of(planned)
    for name, began in (noted or {}).items():
        if now.get(name) != began:
            raise RefusedError(
                f"this replay started with {name} = {began}; the configuration now has {now.get(name)}. Continuing "
                f"would mix both in one output. Restore {name}, or read the slice into another --url"
            )


def application_of(settings: Settings, created_s: int, request: SliceRequest) -> str:
    """The same for the same stream, times, shards and outputs, so that the same command continues where it stopped."""
    identity = [
        settings.stream.name,
        created_s,
        _ms(request.begin),
        _ms(request.end),
        sorted(request.shards),
        request.url and request.url.rstrip("/"),
        sorted(request.streams),
    ]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    name = f"{settings.stream.application[:200]}-replay-{digest}"
    assert APPLICATION.fullmatch(name)
    return name


def _settings(settings: Settings, created_s: int, request: SliceRequest) -> Settings:
    """The application's settings with other inputs and outputs, and a free port for health checks."""
    tables = [sink for sink in settings.sink if isinstance(sink, ParquetSettings)]
    table: dict[str, Any] = tables[0].model_dump() if tables else {"type": "parquet"}
    sinks: list[Any] = [_valid("--url", ParquetSettings, table | {"url": request.url})] if request.url else []
    sinks += [_valid("--sink", KinesisSinkSettings, {"type": "kinesis", "stream": name}) for name in request.streams]
    changes: dict[str, Any] = {
        "stream": settings.stream.model_copy(
            update={
                "application": application_of(settings, created_s, request),
                "start": request.begin.astimezone(UTC).isoformat(),
            }
        ),
        "sink": tuple(sinks),
        "dead_letter": settings.dead_letter.model_copy(update={"url": _letters(settings, request)}),
        "health": settings.health.model_copy(update={"host": "127.0.0.1", "port": 0}),
    }
    if request.rate:
        properties = {"maxRecords": max(1, min(MAX_RECORDS, int(request.rate)))} | settings.kcl.properties
        changes["kcl"] = settings.kcl.model_copy(update={"properties": properties})
    return settings.model_copy(update=changes)


def _valid(option: str, settings: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """:raises UserError: what the option names cannot be a sink."""
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{option}: {error.errors()[0]['msg']}. Correct it") from None


def _refuse_own_outputs(settings: Settings, request: SliceRequest) -> None:
    if settings.stream.name in request.streams:
        raise RefusedError(f"stream {settings.stream.name} is the source: rows on it would be read as records")
    own = [sink.url for sink in settings.sink if isinstance(sink, ParquetSettings)]
    tables: list[str | None] = [*own] or [None]
    taken = [url for table in tables for url in written(table, settings.dead_letter.url)]
    letters = _letters(settings, request)
    option = "--dead-letter" if request.dead_letter else "--url"
    for url, name in ((request.url, "--url"), *((each, option) for each in written(None, letters))):
        if url is not None and (there := next((each for each in taken if clash(each, url)), None)):
            raise RefusedError(
                f"{url} is the same place as {there}, which the application writes to, or one contains the other. "
                f"A replay needs places of its own: name a new one with {name}"
            )
    if request.url is not None and (inside := [url for url in written(None, letters) if clash(url, request.url)]):
        raise RefusedError(
            f"{inside[0]}, for dead letters, is the same place as the table {request.url}, or one contains the other. "
            "Name another with --dead-letter"
        )


def _letters(settings: Settings, request: SliceRequest) -> str:
    return request.dead_letter or f"{(request.url or settings.dead_letter.url).rstrip('/')}{LETTERS}"


def _above(known: Mapping[str, KnownShard], shard_ids: Sequence[str]) -> set[str]:
    """The ancestors of these shards, which KCL reads to their ends first."""
    passed: set[str] = set()
    waiting = [parent for shard_id in shard_ids for parent in known[shard_id].parents]
    while waiting:
        if (shard_id := waiting.pop()) in known and shard_id not in passed:
            passed.add(shard_id)
            waiting += known[shard_id].parents
    return passed


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

"""The settings tree: one class for each section, with the default and the description of each key. The sections of the
model and of the sinks are in :mod:`consumer.config.model_settings` and :mod:`consumer.config.sink_settings`.

``docs/configuration.md`` is rendered from it. AWS credentials, region and endpoint are not settings: they come from the
standard AWS chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr

from consumer.config.model_settings import BatchSettings, InFlightSettings, ModelSettings
from consumer.config.section import LEAST, MOST_MIB, Section
from consumer.config.sink_settings import DeadLetterSettings, SinkSettings
from consumer.config.sources import Source
from consumer.config.values import (
    DAY_S,
    LEAST_TASKS,
    MOST_TASKS,
    STOP_TIMEOUT_S,
    WEEK_S,
    AutoOr,
    LogLevel,
    StreamNameText,
    _application,
    _start,
)

ITERATOR_MS = 240_000
"""Maximum pause between two reads of a shard: AWS lets a shard iterator expire after 300 seconds."""


class StreamSettings(Section):
    """``[stream]``: the stream to read, and the KCL application that reads it."""

    name: StreamNameText = Field(description="the stream to read", examples=["events"])
    application: Annotated[str, AfterValidator(_application)] = Field(
        description=(
            "the KCL application's name, which is also the name of its lease table; a new application reads the"
            " stream from `stream.start`"
        ),
        examples=["penstock-events"],
    )
    start: Annotated[str, BeforeValidator(_start)] = Field(
        default="TRIM_HORIZON",
        description=(
            "where a new application starts: `TRIM_HORIZON`, `LATEST`, or a past ISO-8601 time with a time "
            "zone; has no effect after the first start"
        ),
    )
    give_up_after_tasks: int = Field(
        default=5,
        ge=LEAST_TASKS,
        le=MOST_TASKS,
        description="how many tasks one record may crash; the next task writes it as a dead letter without trying it",
    )


class KclSettings(Section):
    """``[kcl]``: the JVM, its leases and its reads."""

    java_heap_mib: int = Field(
        default=512,
        ge=64,
        le=MOST_MIB,
        description="the JVM's `-Xmx`; with records of 1 MB it needs about 96, and 64 more for each shard of the task",
    )
    failover_ms: int = Field(
        default=10_000,
        ge=1_000,
        le=DAY_S * 1_000,
        description="another task may take a lease that has not been renewed for this long",
    )
    idle_between_reads_ms: int = Field(
        default=250,
        ge=200,
        le=ITERATOR_MS,
        description=(
            "pause between two reads of a shard (AWS allows five reads a second); also the interval between checkpoints"
        ),
    )
    max_leases: int = Field(
        default=0, ge=0, le=1_000_000, description="maximum number of shards that this task processes; 0: no limit"
    )
    shutdown_grace_s: float = Field(
        default=80,
        ge=LEAST,
        le=STOP_TIMEOUT_S,
        description="how long a shard may drain after SIGTERM; the task exits earlier if everything is drained",
    )
    properties: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further KCL properties, by KCL's own names"
    )
    log_level: LogLevel = Field(default="INFO", description="log level of KCL: `DEBUG`, `INFO`, `WARNING`, `ERROR`")


class DrainSettings(Section):
    """``[drain]``: how long the parts of a drain may take; :mod:`consumer.config.drain` checks the sum."""

    longest_batch_s: Annotated[float | Literal["auto"], AutoOr(float, "number of seconds", ge=LEAST, le=DAY_S)] = Field(
        default="auto",
        description=(
            "maximum duration of a full batch; `auto`: the duration that adaptive batches aim for; without"
            " `batch.adaptive`, `batch.max_records` times the duration of the model's example"
        ),
    )
    flush_s: float = Field(
        default=5, ge=LEAST, le=STOP_TIMEOUT_S, description="maximum duration of writing the last files"
    )
    budget_s: float = Field(
        default=100,
        ge=LEAST,
        le=STOP_TIMEOUT_S,
        description="maximum time from SIGTERM to exit; keep it below the container's stop time-out",
    )


class HealthSettings(Section):
    """``[health]``: the HTTP endpoint, and when a task counts as stuck."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on; use `0.0.0.0` if a load balancer must reach it",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="port to listen on; 0: a free port, which is logged")
    stuck_after_s: float = Field(
        default=900,
        ge=LEAST,
        le=WEEK_S,
        description=(
            "`/healthz` fails when a shard has not been read, or has fallen behind without progress, for this long"
        ),
    )


class LogSettings(Section):
    """``[log]``: the level and the format of the log on stderr."""

    level: LogLevel = Field(default="INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR`")
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`auto`: text on a terminal, JSON lines otherwise"
    )


class Settings(Section):
    """All settings of a consumer. Immutable.

    Made by :func:`consumer.config.load.load` or :func:`consumer.config.load.parse`, which also run the checks that span
    sections.
    """

    stream: StreamSettings
    model: ModelSettings
    batch: BatchSettings = BatchSettings()
    in_flight: InFlightSettings = InFlightSettings()
    sink: tuple[SinkSettings, ...]
    dead_letter: DeadLetterSettings
    kcl: KclSettings = KclSettings()
    health: HealthSettings = HealthSettings()
    log: LogSettings = LogSettings()
    drain: DrainSettings = DrainSettings()

    _folder: Path = PrivateAttr(default_factory=Path.cwd)
    _path: Path | None = PrivateAttr(default=None)
    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the file, or the working directory without a file. Replicas have it on ``sys.path``."""
        return self._folder

    @property
    def path(self) -> Path | None:
        """The file, or None if the settings come from a mapping. ``penstock tune`` writes its profile beside it."""
        return self._path

    @property
    def sources(self) -> Mapping[str, Source]:
        """The source of each key that is set (``batch.max_records``, ``sink.0.url``). Other keys have their default."""
        return self._sources

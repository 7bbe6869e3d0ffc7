"""The settings tree: one class for each section, with the default and the description of each key.

``docs/configuration.md`` is rendered from it. AWS credentials, region and endpoint are not settings: they come from the
standard AWS chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from consumer.config.sources import Source
from consumer.config.values import (
    DAY_S,
    LEAST_TASKS,
    MOST_TASKS,
    STOP_TIMEOUT_S,
    WEEK_S,
    AutoOr,
    Level,
    StreamName,
    Url,
    _application,
    _factory,
    _passthrough,
    _start,
)

MOST_MIB = 16 * 1024**2
"""Maximum of memory sizes: 16 TiB, more than any machine that is offered."""

ITERATOR_MS = 240_000
"""Maximum pause between two reads of a shard: AWS lets a shard iterator expire after 300 seconds."""


class _Section(BaseModel):
    """Strict types: ``"64"`` is not a number and ``true`` is not a count. A float accepts a whole number.

    Every number has a maximum: KCL, the operating system and time arithmetic overflow far below 64 bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamSettings(_Section):
    """``[stream]``: the stream to read, and the KCL application that reads it."""

    name: StreamName = Field(description="the stream to read", examples=["events"])
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


class ModelSettings(_Section):
    """``[model]``: the model, its processes, its limits, and how its results are stored."""

    factory: Annotated[str, AfterValidator(_factory)] = Field(
        description="the model's class as `module:attribute`; modules in this file's folder can be imported",
        examples=["examples.minilm:MiniLM"],
    )
    version: str = Field(
        min_length=1, description="written into every row and dead letter", examples=["all-MiniLM-L6-v2@1110a24"]
    )
    replicas: Annotated[int | Literal["auto"], AutoOr(int, "count", ge=1, le=1_000)] = Field(
        default="auto",
        description="number of model processes; `auto`: the profile of `penstock tune`, else one per GPU, else one",
    )
    threads: Annotated[int | Literal["auto"], AutoOr(int, "count", ge=1, le=1_000)] = Field(
        default="auto",
        description=(
            "threads per replica; `auto`: the profile of `penstock tune`, else the cores divided among the replicas"
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="device that replicas compute on; `auto`: one GPU per replica if there are GPUs, else the CPU",
    )
    memory_mib: Annotated[int | Literal["auto"], AutoOr(int, "memory size", ge=0, le=MOST_MIB)] = Field(
        default="auto",
        description=(
            "memory limit of each replica, without memory-mapped weights; `auto`: an equal share of what the "
            "JVM, the records in flight and the host leave of the container's memory; 0: no limit"
        ),
    )
    timeout_s: float = Field(
        default=120,
        gt=0,
        le=DAY_S,
        description="time-out of one batch; its replica is then replaced, and later batches are smaller",
    )
    retries: int = Field(default=1, ge=0, le=100, description="how often a record that fails alone is tried again")
    start_timeout_s: float = Field(
        default=120, gt=0, le=DAY_S, description="time-out for loading and warming up the model"
    )
    give_up_after_s: float = Field(
        default=120,
        gt=0,
        le=WEEK_S,
        description="how long a replica is restarted without success before the task exits with an error",
    )
    aws_credentials: bool = Field(
        default=False,
        description=(
            "whether the model's processes get the task's AWS credentials in their environment; see "
            "[security](security.md#what-the-model-may-do)"
        ),
    )
    passthrough: Annotated[dict[str, str], AfterValidator(_passthrough)] = Field(
        default_factory=dict,
        description="payload fields to keep as columns, with their types: "
        "`string`, `int64`, `float64`, `bool`, `timestamp` (ISO-8601 text), and `timestamp[s]`, `[ms]`, `[us]`, `[ns]` "
        "(numbers in that unit since 1970, too)",
    )
    missing: Literal["null", "reject"] = Field(
        default="null",
        description=(
            "what `None`, `NaT` and `pandas.NA` in the model's results become, and NaN in a column that is not "
            "of floats: a null, or a dead letter for the record"
        ),
    )
    not_finite: Literal["keep", "null", "reject"] = Field(
        default="keep",
        description=(
            "what NaN and the infinities in the model's float columns become: unchanged, a null, or a dead "
            "letter for the record"
        ),
    )
    options: dict[str, Any] = Field(default_factory=dict, description="passed to the model unchanged")


class BatchSettings(_Section):
    """``[batch]``: the limits within which micro-batches are formed."""

    max_records: int = Field(default=64, ge=1, le=10_000, description="maximum number of records in a batch")
    max_cost: int = Field(
        default=0,
        ge=0,
        le=1_000_000_000_000,
        description=(
            "maximum cost of a batch: the sum of the model's `cost(item)`, or for models that pad the largest "
            "cost times the number of records; 0: no limit"
        ),
    )
    linger_ms: float = Field(
        default=20,
        ge=0,
        le=60_000,
        description="how long a record may wait for others before an incomplete batch is sent to the model",
    )
    adaptive: bool = Field(
        default=True,
        description=(
            "find the batch size with the highest throughput, up to the maxima; false: always fill batches to "
            "the maxima"
        ),
    )
    target_latency_ms: float = Field(
        default=0,
        ge=0,
        le=DAY_S * 1_000,
        description=(
            "target for the duration of a predict call; batches are kept small enough that their expected duration "
            "is within it; 0: no target"
        ),
    )
    bucket_records: int = Field(
        default=512,
        ge=1,
        le=10_000,
        description="for models that pad: how many waiting records to search for items of similar length",
    )


class InFlightSettings(_Section):
    """``[in_flight]``: the limits on records that are received and not durable yet. They bound a task's memory."""

    records_per_shard: int = Field(
        default=2_000,
        ge=1,
        le=1_000_000,
        description="maximum number of records per shard that have been received and have no row or dead letter yet",
    )
    total_mib: int = Field(
        default=256,
        ge=16,
        le=MOST_MIB,
        description=(
            "maximum size of all records in the task that have been received and are not durable yet, including"
            " what sinks hold"
        ),
    )


Seconds = Annotated[float, Field(gt=0, le=WEEK_S)]
GIVE_UP = "how long to retry before the task exits with an error; permission errors are retried for one minute"


class ParquetSettings(_Section):
    """``[[sink]]`` with ``type = "parquet"``: a table of Parquet files on S3 or in a folder."""

    type: Literal["parquet"]
    url: Url = Field(description="`s3://bucket/prefix`, or a folder", examples=["s3://bucket/enriched"])
    flush_interval_s: float = Field(
        default=300, gt=0, le=86_400, description="maximum age of a row before its file is written"
    )
    flush_mib: float = Field(
        default=64, gt=0, le=4_096, description="a shard's file is written when it reaches this size"
    )
    give_up_after_s: Seconds = Field(default=3_600, description=GIVE_UP)


class KinesisSinkSettings(_Section):
    """``[[sink]]`` with ``type = "kinesis"``: a downstream stream, written at least once."""

    type: Literal["kinesis"]
    stream: StreamName = Field(description="the stream to write to", examples=["enriched"])
    give_up_after_s: Seconds = Field(default=3_600, description=GIVE_UP)


class DeadLetterSettings(_Section):
    """``[dead_letter]``: where dead letters are written, and how many are too many."""

    url: Url = Field(
        description="where dead letters are written: `s3://bucket/prefix`, or a folder",
        examples=["s3://bucket/dead-letter"],
    )
    give_up_after_s: Seconds = Field(
        default=3_600, description=f"without a Parquet sink, which otherwise stores the dead letters: {GIVE_UP}"
    )
    max_consecutive: int = Field(
        default=1_000,
        ge=0,
        le=1_000_000,
        description=(
            "the task exits if the model fails on this many consecutive records, of one shard or of all shards "
            "together; the checkpoint stays before them; 0: no limit"
        ),
    )
    max_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "the task exits if the model fails on a larger share of the last `dead_letter.window` records; "
            "applies once there are that many; 1: no limit"
        ),
    )
    window: int = Field(
        default=1_000, ge=1, le=1_000_000, description="number of records that `dead_letter.max_ratio` is computed over"
    )
    limit_on: Literal["failures", "all"] = Field(
        default="failures",
        description=(
            "what counts towards the limits: `failures` of the model, or `all` dead letters, including payloads"
            " that the model rejects on purpose"
        ),
    )


class KclSettings(_Section):
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
        gt=0,
        le=STOP_TIMEOUT_S,
        description="how long a shard may drain after SIGTERM; the task exits earlier if everything is drained",
    )
    properties: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further KCL properties, by KCL's own names"
    )
    log_level: Level = Field(default="INFO", description="log level of KCL: `DEBUG`, `INFO`, `WARNING`, `ERROR`")


class DrainSettings(_Section):
    """``[drain]``: how long the parts of a drain may take; :mod:`consumer.config.drain` checks the sum."""

    longest_batch_s: Annotated[float | Literal["auto"], AutoOr(float, "number of seconds", gt=0, le=DAY_S)] = Field(
        default="auto",
        description=(
            "maximum duration of a full batch; `auto`: the target of `batch.adaptive`, else `batch.max_records`"
            " times the duration of the model's example"
        ),
    )
    flush_s: float = Field(default=5, gt=0, le=STOP_TIMEOUT_S, description="maximum duration of writing the last files")
    budget_s: float = Field(
        default=100,
        gt=0,
        le=STOP_TIMEOUT_S,
        description="maximum time from SIGTERM to exit; keep it below the container's stop time-out",
    )


class HealthSettings(_Section):
    """``[health]``: the HTTP endpoint, and when a task counts as stuck."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen on; use `0.0.0.0` if a load balancer must reach it",
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="port to listen on; 0: a free port, which is logged")
    stuck_after_s: float = Field(
        default=900,
        gt=0,
        le=WEEK_S,
        description=(
            "`/healthz` fails when a shard has not been read, or has fallen behind without progress, for this long"
        ),
    )


class LogSettings(_Section):
    """``[log]``: the level and the format of the log on stderr."""

    level: Level = Field(default="INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR`")
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`auto`: text on a terminal, JSON lines otherwise"
    )


SinkSettings = ParquetSettings | KinesisSinkSettings
SINKS: dict[str, type[ParquetSettings | KinesisSinkSettings]] = {
    "parquet": ParquetSettings,
    "kinesis": KinesisSinkSettings,
}


class Settings(_Section):
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

"""The settings tree: one class for each section, with its defaults and what each key is for.

AWS credentials, region and endpoint are no settings: they come from the standard AWS chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from consumer.config.sources import Source
from consumer.config.values import (
    LEAST_TASKS,
    MOST_TASKS,
    STOP_TIMEOUT_S,
    BatchSeconds,
    Count,
    Level,
    Memory,
    StreamName,
    Url,
    _application,
    _factory,
    _passthrough,
    _start,
)


class _Section(BaseModel):
    """Strict: ``"64"`` is no number and ``true`` no count. A whole number may stand where a float is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StreamSettings(_Section):
    name: StreamName = Field(description="the stream to read", examples=["events"])
    application: Annotated[str, AfterValidator(_application)] = Field(
        description="the KCL application: names the lease table; a new one reads the stream anew",
        examples=["penstock-events"],
    )
    start: Annotated[str, BeforeValidator(_start)] = Field(
        default="TRIM_HORIZON",
        description="where a new application begins: `TRIM_HORIZON`, `LATEST` or an ISO-8601 time with its zone that "
        "has passed; fixed at its first start",
    )
    give_up_after_tasks: int = Field(
        default=5,
        ge=LEAST_TASKS,
        le=MOST_TASKS,
        description="so many tasks may end over one record, whatever it kills; the next makes it a dead letter",
    )


class ModelSettings(_Section):
    factory: Annotated[str, AfterValidator(_factory)] = Field(
        description="the model's class as `module:attribute`; modules beside this file are found",
        examples=["examples.minilm:MiniLM"],
    )
    version: str = Field(
        min_length=1, description="written into every row and dead letter", examples=["all-MiniLM-L6-v2@1110a24"]
    )
    replicas: Count = Field(
        default="auto",
        description="processes that hold the model; `auto`: as `penstock tune` found, or one, or one for each GPU",
    )
    threads: Count = Field(
        default="auto", description="threads per replica; `auto`: as `penstock tune` found, or the cores shared out"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="what replicas compute on; `auto`: GPUs where there are some, one for each replica"
    )
    memory_mib: Memory = Field(
        default="auto",
        description="what each replica may take, memory-mapped weights aside; `auto`: its share of the container's, "
        "after the JVM, the records in flight and the host; 0: no limit",
    )
    timeout_s: float = Field(
        default=120, gt=0, description="a batch that takes longer costs its replica, and makes later batches smaller"
    )
    retries: int = Field(default=1, ge=0, le=100, description="further tries of a record that fails alone")
    start_timeout_s: float = Field(default=120, gt=0, description="loading and warming up must end within this")
    give_up_after_s: float = Field(
        default=120, gt=0, description="how long a replica may fail to start again before the task ends with the reason"
    )
    aws_credentials: bool = Field(
        default=False,
        description="whether the model's processes have the task's AWS credentials in their environment; "
        "see [security](security.md#what-the-model-may-do)",
    )
    passthrough: Annotated[dict[str, str], AfterValidator(_passthrough)] = Field(
        default_factory=dict,
        description="payload fields to keep as columns, with their types: "
        "`string`, `int64`, `float64`, `bool`, `timestamp` (ISO-8601 text), and `timestamp[s]`, `[ms]`, `[us]`, `[ns]` "
        "(numbers in that unit since 1970, too)",
    )
    missing: Literal["null", "reject"] = Field(
        default="null",
        description="what `None`, `NaT`, `pandas.NA`, and NaN in a column that holds no floats are in the model's "
        "results: a null, or the record's dead letter",
    )
    not_finite: Literal["keep", "null", "reject"] = Field(
        default="keep",
        description="what NaN and the infinities are in the model's columns of floats: kept, a null, or the record's "
        "dead letter",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="handed to the model as they are")


class BatchSettings(_Section):
    max_records: int = Field(default=64, ge=1, le=10_000, description="records in a micro-batch, at most")
    max_cost: int = Field(
        default=0,
        ge=0,
        description="what a micro-batch may cost at most: the sum of the model's own `cost(item)`, or, if it pads, "
        "the dearest times their number; 0: no limit",
    )
    linger_ms: float = Field(default=20, ge=0, le=60_000, description="how long a record may wait for company")
    adaptive: bool = Field(
        default=True,
        description="find out which batches are quickest, up to the maxima; false: as large as they may be",
    )
    target_latency_ms: float = Field(
        default=0, ge=0, description="how long a predict call may take, as far as that can be foreseen; 0: no matter"
    )
    bucket_records: int = Field(
        default=512,
        ge=1,
        le=10_000,
        description="for a model that pads: among so many waiting records a batch's like are looked for",
    )


class InFlightSettings(_Section):
    records_per_shard: int = Field(default=2_000, ge=1, description="admitted and not yet settled, per shard")
    total_mib: int = Field(
        default=256, ge=16, description="admitted, or held by sinks and not yet durable, in the whole task"
    )


PatienceS = Annotated[float, Field(gt=0)]
PATIENCE = "how long it may fail to answer before the task ends with the reason; a refusal may last a minute"


class ParquetSettings(_Section):
    type: Literal["parquet"]
    url: Url = Field(description="`s3://bucket/prefix`, or a folder", examples=["s3://bucket/enriched"])
    flush_interval_s: float = Field(
        default=300, gt=0, le=86_400, description="the oldest a row may be before it is written"
    )
    flush_mib: float = Field(
        default=64, gt=0, le=4_096, description="a file is written once a shard has this much for it"
    )
    give_up_after_s: PatienceS = Field(default=3_600, description=PATIENCE)


class KinesisSinkSettings(_Section):
    type: Literal["kinesis"]
    stream: StreamName = Field(description="the stream to write to", examples=["enriched"])
    give_up_after_s: PatienceS = Field(default=3_600, description=PATIENCE)


class DeadLetterSettings(_Section):
    url: Url = Field(
        description="where records go that cannot be enriched: `s3://bucket/prefix`, or a folder",
        examples=["s3://bucket/dead-letter"],
    )
    give_up_after_s: PatienceS = Field(
        default=3_600, description=f"without a Parquet sink, which keeps them otherwise: {PATIENCE}"
    )
    max_consecutive: int = Field(
        default=1_000,
        ge=0,
        description="so many records of a shard in a row, or of all shards together, that the model fails on end the "
        "task, with its checkpoint before them; 0: no limit",
    )
    max_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="so does a larger share of the last `dead_letter.window` records, once there are so many; "
        "1: no limit",
    )
    window: int = Field(default=1_000, ge=1, le=1_000_000, description="how many records `dead_letter.max_ratio` is of")
    limit_on: Literal["failures", "all"] = Field(
        default="failures",
        description="what counts for the limits: `failures` of the model, or `all` dead letters, also those of "
        "payloads that are refused on purpose",
    )


class KclSettings(_Section):
    java_heap_mib: int = Field(
        default=512,
        ge=64,
        description="the JVM's `-Xmx`; with records of 1 MB it wants about 64 for each shard of the task, and 96",
    )
    failover_ms: int = Field(default=10_000, ge=1_000, description="a lease not renewed for this long may be taken")
    idle_between_reads_ms: int = Field(
        default=250,
        ge=200,
        description="between two reads of a shard (AWS allows five a second); also the checkpoints' beat",
    )
    max_leases: int = Field(default=0, ge=0, description="the most shards this task takes; 0: no limit")
    shutdown_grace_s: float = Field(
        default=80, gt=0, description="what a shard has to drain in, on SIGTERM; nobody waits longer than needed"
    )
    properties: dict[str, str | int | bool] = Field(
        default_factory=dict, description="further KCL properties, by KCL's own names"
    )
    log_level: Level = Field(default="INFO", description="KCL's own: `DEBUG`, `INFO`, `WARNING`, `ERROR`")


class DrainSettings(_Section):
    longest_batch_s: BatchSeconds = Field(
        default="auto",
        description="what a full batch takes at most; `auto`: what `batch.adaptive` aims at, else `batch.max_records` "
        "times the model's example",
    )
    flush_s: float = Field(default=5, gt=0, description="what writing the last files takes at most")
    budget_s: float = Field(
        default=100,
        gt=0,
        le=STOP_TIMEOUT_S,
        description="from SIGTERM to the end; keep it below the container's stop time-out",
    )


class HealthSettings(_Section):
    host: str = Field(default="127.0.0.1", min_length=1, description="`0.0.0.0` where a load balancer must reach it")
    port: int = Field(default=8080, ge=0, le=65_535, description="0: a free one, which the log names")
    stuck_after_s: float = Field(
        default=900,
        gt=0,
        description="`/healthz` fails once a shard is not read, or falls behind without any progress, for so long",
    )


class LogSettings(_Section):
    level: Level = Field(default="INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR`")
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`auto`: text on a terminal, else JSON lines"
    )


SinkSettings = ParquetSettings | KinesisSinkSettings
SINKS: dict[str, type[ParquetSettings | KinesisSinkSettings]] = {
    "parquet": ParquetSettings,
    "kinesis": KinesisSinkSettings,
}


class Settings(_Section):
    """Everything a consumer is told. Made by :func:`load` or :func:`parse`, which also check what spans sections."""

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
        """Where the file lies: goes on ``sys.path`` of the replicas."""
        return self._folder

    @property
    def path(self) -> Path | None:
        """The file itself; None if there is none. ``penstock tune`` writes its profile beside it."""
        return self._path

    @property
    def sources(self) -> Mapping[str, Source]:
        """For each key that is set (``batch.max_records``, ``sink.0.url``) where from; the others have defaults."""
        return self._sources

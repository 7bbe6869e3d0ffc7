"""One TOML file, one validated settings tree.

:func:`load` reads the file, lets ``PENSTOCK_<SECTION>__<KEY>`` override it, and either returns :class:`Settings` or
raises :class:`~consumer.mistakes.ConfigErrors` with every mistake at once. AWS credentials, region and endpoint
are no settings: they come from the standard AWS chain.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, PrivateAttr
from pydantic_core import PydanticCustomError

from consumer.config_checks import across
from consumer.config_sources import Source, override, sources_of
from consumer.mistakes import ConfigErrors, of_section, shown_value, unknown, unusable
from pipeline.errors import ConfigError, UserError

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Names of streams, as Kinesis' API model has them."""
ARN = re.compile(r"arn:[^:]*:kinesis:[^:]*:[^:]*:stream/([A-Za-z0-9_.-]{1,128})(?:/.*)?")
APPLICATION = re.compile(r"[A-Za-z0-9_.-]{3,238}")
"""A KCL application names DynamoDB tables (at most 255 characters); KCL appends up to 17 for its own."""
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
STOP_TIMEOUT_S = 120
"""The longest that ECS waits between SIGTERM and SIGKILL."""
DOUBTFUL = 2
"""Deaths from which on a shard is read carefully. One may be anybody's: a machine fails, a container is evicted."""

LEAST_TASKS = DOUBTFUL + 1 + 2
"""Of ``give_up_after_tasks``: a record must have been by itself at two deaths at least."""

REMEMBERED = 8
"""Deaths whose reasons are kept; more say no more."""

MOST_TASKS = REMEMBERED + DOUBTFUL
"""Of ``give_up_after_tasks``: so many deaths can be told apart."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
CARRY_TYPES = (
    *("string", "int64", "float64", "bool", "timestamp"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def _wrong(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "fix": fix})


def _name(value: str) -> str:
    if arn := ARN.fullmatch(value):
        raise _wrong(f"{shown_value(value)} is an ARN, not a name", f'Write "{arn[1]}"; the region is AWS_REGION\'s')
    if not NAME.fullmatch(value):
        problem = f"{shown_value(value)} is no name of a stream"
        raise _wrong(problem, "Write 1 to 128 letters, digits, '.', '_' or '-'")
    return value


def _application(value: str) -> str:
    if not APPLICATION.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} cannot name a DynamoDB table",
            "Write 3 to 238 letters, digits, '.', '_' or '-'; no spaces",
        )
    return value


def _start(value: object) -> object:
    """TOML has times of its own; KCL wants an instant, so a time needs its zone."""
    if value in ("TRIM_HORIZON", "LATEST") or not isinstance(value, str | datetime):
        return value
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        when = None
    shown = shown_value(str(value))
    if when is None or when.tzinfo is None:
        problem = f"{shown} is no place in a stream" if when is None else f"{shown} has no time zone"
        raise _wrong(problem, 'Write "TRIM_HORIZON", "LATEST" or a time such as "2026-11-23T08:00:00Z"')
    if when > datetime.now(UTC):
        raise _wrong(f"{shown} lies ahead", 'Write "LATEST" to begin now, or a time that has passed')
    return when.isoformat()


def _factory(value: str) -> str:
    if not FACTORY.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} is not of the form module:attribute", 'Write for example "examples.minilm:MiniLM"'
        )
    return value


def _count(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise _wrong(f"{shown_value(value)} is no count", 'Write "auto" or a whole number of at least 1')


def _memory(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _wrong(f"{shown_value(value)} is no memory", 'Write "auto", a whole number of MiB, or 0 for no limit')


def _seconds(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise _wrong(f"{shown_value(value)} is no number of seconds", 'Write "auto" or a number above 0')


def _url(value: str) -> str:
    bucket = value.removeprefix("s3://").partition("/")[0]
    if value.startswith("s3://") and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise _wrong(f"{shown_value(value)} names no bucket", "Write s3://bucket/prefix")
    if not value or ("://" in value and not value.startswith("s3://")) or "\0" in value:
        raise _wrong(
            f"{shown_value(value)} is neither on S3 nor a folder", "Write s3://bucket/prefix, or the path of a folder"
        )
    return value


def _level(value: object) -> object:
    return value.upper() if isinstance(value, str) and value.upper() in LEVELS else value


def _carry(value: dict[str, str]) -> dict[str, str]:
    for field, kind in value.items():
        if kind not in CARRY_TYPES:
            raise _wrong(f"{field} = {shown_value(kind)} is no type", f"Write one of {', '.join(CARRY_TYPES)}")
        if not field or field.startswith("_"):
            raise _wrong(f'"{field}" cannot be a column', "Readers of Parquet skip what starts with _; rename it")
    return value


StreamName = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
Count = Annotated[int | Literal["auto"], PlainValidator(_count)]
Memory = Annotated[int | Literal["auto"], PlainValidator(_memory)]
BatchSeconds = Annotated[float | Literal["auto"], PlainValidator(_seconds)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level)]


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
        "after the JVM, the window and the host; 0: no limit",
    )
    timeout_s: float = Field(
        default=120, gt=0, description="a batch that takes longer costs its replica, and makes later batches smaller"
    )
    retries: int = Field(default=1, ge=0, le=100, description="further tries of a record that fails alone")
    start_timeout_s: float = Field(default=120, gt=0, description="loading and warming up must end within this")
    patience_s: float = Field(
        default=120, gt=0, description="how long a replica may fail to start again before the task ends with the reason"
    )
    aws_credentials: bool = Field(
        default=False,
        description="whether the model's processes have the task's AWS credentials in their environment; "
        "see [security](security.md#what-the-model-may-do)",
    )
    carry: Annotated[dict[str, str], AfterValidator(_carry)] = Field(
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
    learn: bool = Field(
        default=True,
        description="find out which batches are quickest, up to the maxima; false: as large as they may be",
    )
    target_latency_ms: float = Field(
        default=0, ge=0, description="how long a predict call may take, as far as that can be foreseen; 0: no matter"
    )
    look_ahead: int = Field(
        default=512,
        ge=1,
        le=10_000,
        description="for a model that pads: among so many waiting records a batch's like are looked for",
    )


class WindowSettings(_Section):
    records: int = Field(default=2_000, ge=1, description="admitted and not yet settled, per shard")
    mib: int = Field(
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
    patience_s: PatienceS = Field(default=3_600, description=PATIENCE)


class KinesisSinkSettings(_Section):
    type: Literal["kinesis"]
    stream: StreamName = Field(description="the stream to write to", examples=["enriched"])
    patience_s: PatienceS = Field(default=3_600, description=PATIENCE)


class DeadLetterSettings(_Section):
    url: Url = Field(
        description="where records go that cannot be enriched: `s3://bucket/prefix`, or a folder",
        examples=["s3://bucket/dead-letter"],
    )
    patience_s: PatienceS = Field(
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
    batch_s: BatchSeconds = Field(
        default="auto",
        description="what a full batch takes at most; `auto`: `batch.max_records` times the model's example",
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
    window: WindowSettings = WindowSettings()
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


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the file, with ``PENSTOCK_…`` of ``env`` on top. Raises ``UserError`` or ``ConfigErrors``."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name a configuration file that exists") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}. Strings need quotes, tables look like [batch]") from None
    except RecursionError:
        raise UserError(f"{path}: lists or tables lie too deep in each other. Write them flatter") from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        problem = f"{path}: a number has more than {most} digits. Write a smaller one, or a string in quotes"
        raise UserError(problem) from None
    return parse(raw, env, path=path)


def parse(raw: Mapping[str, Any], env: Mapping[str, str] | None = None, *, path: Path | None = None) -> Settings:
    """The settings in a mapping laid out as the file is. Raises ``ConfigErrors``."""
    if mistakes := list(unusable(raw)):
        raise ConfigErrors(str(path or "settings"), mistakes, {})
    given, from_env, mistakes = override(raw, env or {}, Settings)
    if wrong := list(unusable(given)):
        raise ConfigErrors(str(path or "settings"), wrong, from_env)
    known = list(Settings.model_fields)
    mistakes += [unknown(key, known) for key in given if key not in known]
    sections: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        section, wrong = _sinks(given) if name == "sink" else of_section(name, field.annotation, given.get(name, {}))
        sections[name] = section
        mistakes += wrong
    mistakes += across(sections)
    if mistakes:
        raise ConfigErrors(str(path or "settings"), mistakes, from_env)
    settings = Settings.model_construct(**sections)
    settings._folder = (path.parent if path else Path.cwd()).resolve()
    settings._path = path
    settings._sources = sources_of(given, from_env)
    return settings


def _sinks(given: Mapping[str, Any]) -> tuple[tuple[Any, ...], list[ConfigError]]:
    """Each sink is checked as its ``type`` has it; one that is wrong is None."""
    tables = given.get("sink", [])
    how = 'Write [[sink]] with type = "parquet" and url = "s3://bucket/enriched"'
    if not isinstance(tables, list) or not tables:
        problem = "has no table" if not tables else "must be a list of tables"
        return (), [ConfigError("sink", problem, how)]
    sinks: list[Any] = []
    mistakes: list[ConfigError] = []
    for place, table in enumerate(tables):
        kind = table.get("type") if isinstance(table, dict) else None
        if kind not in SINKS:
            problem = "missing" if kind is None else f"{shown_value(kind)} is no type of sink"
            mistakes.append(ConfigError(f"sink.{place}.type", problem, 'Write "parquet" or "kinesis"'))
            continue
        sink, wrong = of_section(f"sink.{place}", SINKS[kind], table)
        sinks.append(sink)
        mistakes += wrong
    return tuple(sinks), mistakes

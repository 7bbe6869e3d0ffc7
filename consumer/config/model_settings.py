"""``[model]``, ``[batch]`` and ``[in_flight]``: the model, its batches, and the records that wait for it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from consumer.config.section import LEAST, MOST_MIB, Section
from consumer.config.values import DAY_S, WEEK_S, AutoOr, _factory, _passthrough


class ModelSettings(Section):
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
        ge=LEAST,
        le=DAY_S,
        description="time-out of one batch; its replica is then replaced, and later batches are smaller",
    )
    retries: int = Field(default=1, ge=0, le=100, description="how often a record that fails alone is tried again")
    start_timeout_s: float = Field(
        default=120, ge=LEAST, le=DAY_S, description="time-out for loading and warming up the model"
    )
    give_up_after_s: float = Field(
        default=120,
        ge=LEAST,
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


class BatchSettings(Section):
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


class InFlightSettings(Section):
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

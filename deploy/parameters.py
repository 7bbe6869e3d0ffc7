"""Converts a configuration to parameters of ``penstock.yaml``, and finds values that do not fit together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from consumer.config.drain import LEAVE_S
from consumer.config.sink_settings import ParquetSettings
from deploy.constraints import defaults, mistakes
from deploy.ecs import CPU_OF_INSTANCES, LARGEST_INSTANCE_MIB, STOP_TIMEOUT_S, VCPU
from deploy.templates import template
from pipeline.machine.memory import HOST_MIB, JVM_MIB, LEAST_MIB

if TYPE_CHECKING:
    from consumer.config.profile import Profile
    from consumer.config.settings import Settings

APPLICATION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""The form of an application's name, which is also the name of a repository in ECR; of 3 to 41 characters."""

PREFIX = re.compile(r"[a-z0-9_-]{1,64}")
"""The form of a prefix in the template's bucket."""

ATHENA = "athena"
"""The prefix of the bucket in which Athena keeps its answers; they expire after 7 days."""

NOTHING_DURABLE_S = 900
"""Seconds without a durable record after which the template's alarm fires."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """``cpu`` in CPU units, ``memory_mib`` of a task; ``weights_mib``: the model's weights, which its replicas share.

    ``shards`` is None if the stream has as many as the template's default or exists already. ``gpus`` of a task: 0 for
    Fargate, which has none. ``profile`` is that of ``penstock tune``, if it is valid in such a task.
    """

    cpu: int
    memory_mib: int
    tasks: int
    shards: int | None = None
    weights_mib: int = 0
    gpus: int = 0
    profile: Profile | None = None

    def with_parameters(self, chosen: Mapping[str, str]) -> Sizing:
        """The same with the template's parameters that were chosen by name. Those that are not numbers are left out."""
        whole: dict[str, Any] = {
            field: int(chosen[name]) for name, field in FIELDS.items() if re.fullmatch(r"-?\d+", chosen.get(name, ""))
        }
        return replace(self, **whole)

    @property
    def vcpus(self) -> int:
        """Cores that a task sees, at least 1."""
        return max(1, self.cpu // VCPU)


FIELDS = {"Cpu": "cpu", "Memory": "memory_mib", "DesiredCount": "tasks", "ShardCount": "shards", "Gpus": "gpus"}
"""The fields of a sizing, by the name of the template's parameter."""


def problems(settings: Settings, sizing: Sizing, chosen: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a line with the calculation for every value that does not fit.

    ``chosen``: parameters that were chosen by name, and replace those of the configuration; ``sizing`` has them.
    """
    if wrong := list(_sinks_of_the_template(settings)):
        yield from wrong
        return
    text = template(gpu=bool(sizing.gpus))
    rendered = parameters(settings, sizing) | dict(chosen or {})
    yield from mistakes(text, rendered)
    yield from _whole_numbers(rendered)
    values = defaults(text) | rendered
    yield from _names(settings, values)
    yield from _of_instances(sizing, values) if sizing.gpus else _of_fargate(settings, values)
    yield from _memory(settings, sizing)
    yield from _leases(settings, sizing)
    yield from _times(settings, values)


def parameters(settings: Settings, sizing: Sizing) -> dict[str, str]:
    """The template's parameters, by name. ``ImageTag`` is not among them: each deployment sets it."""
    table, downstream = _sinks(settings)
    given = {
        "Application": settings.stream.application,
        "StreamName": settings.stream.name,
        "DownstreamName": downstream[0] if downstream else "",
        "TablePrefix": prefix_of(table[0]),
        "DeadLetterPrefix": prefix_of(settings.dead_letter.url),
        "Cpu": str(sizing.cpu),
        "Memory": str(sizing.memory_mib),
        "DesiredCount": str(sizing.tasks),
    }
    if sizing.gpus:
        return given | {"Gpus": str(sizing.gpus)}
    return given | ({"ShardCount": str(sizing.shards)} if sizing.shards is not None else {})


def prefix_of(url: str) -> str:
    """Return the prefix of ``s3://bucket/prefix``, or the name of a folder: the template has its own bucket."""
    return url.removeprefix("s3://").partition("/")[2].strip("/") if url.startswith("s3://") else url.rpartition("/")[2]


def _whole_numbers(rendered: Mapping[str, str]) -> Iterator[str]:
    for name in FIELDS:
        if not re.fullmatch(r"-?\d+", rendered.get(name, "0")):
            yield f"{name}={rendered[name]} is not a whole number"


def _of_fargate(settings: Settings, values: Mapping[str, str]) -> Iterator[str]:
    if settings.model.device == "cuda":
        yield (
            'model.device is "cuda", but Fargate has no GPUs, and tasks would not start. Use --gpus, or set '
            'model.device to "auto"'
        )
    if values["OnDemandWeight"] == values["SpotWeight"] == "0":
        yield "OnDemandWeight=0 and SpotWeight=0: ECS takes no strategy without a weight. Raise one of them"
    hours, days = (_number(values[name]) for name in ("RetentionHours", "CrashJournalDays"))
    if days * 24 <= hours:
        yield (
            f"CrashJournalDays={days:g} x 24 = {days * 24:g} hours, but the stream keeps records for RetentionHours="
            f"{hours:g}. Raise CrashJournalDays"
        )


def _of_instances(sizing: Sizing, values: Mapping[str, str]) -> Iterator[str]:
    if sizing.cpu not in CPU_OF_INSTANCES:
        yield f"Cpu={sizing.cpu}: ECS takes {CPU_OF_INSTANCES[0]} to {CPU_OF_INSTANCES[-1]} CPU units for a task"
    if sizing.memory_mib > LARGEST_INSTANCE_MIB:
        yield f"Memory={sizing.memory_mib}: the largest instances with GPUs have {LARGEST_INSTANCE_MIB} MiB"
    if values["TablePrefix"] == values["DeadLetterPrefix"]:
        yield f"TablePrefix={values['TablePrefix']}: table and dead letters need prefixes of their own"
    for prefix in ("TablePrefix", "DeadLetterPrefix"):
        if values[prefix] == ATHENA:
            yield (
                f"{prefix}={ATHENA}: the bucket deletes what lies there after 7 days, as answers of Athena. Use "
                "another prefix"
            )


def _times(settings: Settings, values: Mapping[str, str]) -> Iterator[str]:
    exit_s = settings.drain.budget_s + LEAVE_S
    if exit_s >= STOP_TIMEOUT_S:
        yield (
            f"drain.budget_s {settings.drain.budget_s:g} s + {LEAVE_S:g} s to exit = {exit_s:g} s, but ECS kills a "
            f"task after {STOP_TIMEOUT_S} s. Lower drain.budget_s"
        )
    flush_s = next(sink.flush_interval_s for sink in settings.sink if isinstance(sink, ParquetSettings))
    if flush_s >= NOTHING_DURABLE_S:
        yield (
            f"sink.0.flush_interval_s {flush_s:g} s, but the alarm nothing-durable fires after {NOTHING_DURABLE_S} s "
            "without a file. Lower flush_interval_s"
        )
    elif flush_s >= (age_s := _number(values.get("RecordAgeSeconds", "inf"))):
        yield (
            f"sink.0.flush_interval_s {flush_s:g} s, but the alarm record-age fires if a record waits for more than "
            f"RecordAgeSeconds={age_s:g}. Lower flush_interval_s, or raise RecordAgeSeconds"
        )


def _number(text: str) -> float:
    """NaN, which is neither more nor less than another number, where the template refuses the text already."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _memory(settings: Settings, sizing: Sizing) -> Iterator[str]:
    model = settings.model
    replicas, why = _replicas(settings, sizing)
    each_mib = LEAST_MIB if model.memory_mib == "auto" or not model.memory_mib else model.memory_mib
    heap_mib, flying_mib = settings.kcl.java_heap_mib, settings.in_flight.total_mib
    needed_mib = sizing.weights_mib + flying_mib + heap_mib + JVM_MIB + HOST_MIB + replicas * each_mib
    if needed_mib > sizing.memory_mib:
        yield (
            f"weights {sizing.weights_mib} + in_flight.total_mib {flying_mib} + kcl.java_heap_mib {heap_mib} + "
            f"{JVM_MIB} for the JVM + {HOST_MIB} for the host + {replicas} x {each_mib} for replicas{why} "
            f"= {needed_mib} MiB, but a task has {sizing.memory_mib}. Raise the memory, or lower one of these"
        )


def _replicas(settings: Settings, sizing: Sizing) -> tuple[int, str]:
    """Resolve ``auto`` as a task does; with the source of the number if it is not from the configuration."""
    if sizing.gpus:  # gpu.yaml sets model.device and model.replicas
        return sizing.gpus, " (one for each GPU)"
    if settings.model.replicas != "auto":
        return settings.model.replicas, ""
    return (sizing.profile.replicas, " (as tuned)") if sizing.profile is not None else (1, "")


def _leases(settings: Settings, sizing: Sizing) -> Iterator[str]:
    if sizing.shards is None:
        return
    most = settings.kcl.max_leases
    if sizing.tasks > sizing.shards:
        yield (
            f"{sizing.tasks} tasks for {sizing.shards} shards: {sizing.tasks - sizing.shards} would be idle. Lower the "
            f"tasks, or add shards"
        )
    if most and sizing.tasks and most * sizing.tasks < sizing.shards:
        yield (
            f"kcl.max_leases {most} x {sizing.tasks} tasks = {most * sizing.tasks}, but there are {sizing.shards} "
            f"shards, and the rest is not read. Raise kcl.max_leases or the tasks"
        )


def _sinks_of_the_template(settings: Settings) -> Iterator[str]:
    table, downstream = _sinks(settings)
    if len(table) != 1 or len(downstream) > 1:
        yield (
            f"{len(table)} Parquet sinks and {len(downstream)} Kinesis sinks, but the template has one table and "
            f"at most one downstream stream. Remove the others"
        )
    elif not isinstance(settings.sink[0], ParquetSettings):
        yield (
            "sink.0 is a stream, but the template sets the URL of the table for sink.0, and tasks would not start. "
            "Write the Parquet sink first"
        )


def _names(settings: Settings, values: Mapping[str, str]) -> Iterator[str]:
    name = values["Application"]
    if re.fullmatch(r"[a-z][a-z0-9-]*", name) and not APPLICATION.fullmatch(name):
        yield (
            f"Application={name}: the template makes a repository of this name, and ECR takes no hyphen at the end, "
            "and no two in a row. Use another name"
        )
    if values["DownstreamName"] == values["StreamName"]:
        yield f"DownstreamName={values['StreamName']} is the stream that is read. Use another stream"
    if len(settings.sink) > 1 and not values["DownstreamName"]:
        yield "DownstreamName is empty, but the configuration has a Kinesis sink. Name its stream, or remove the sink"


def _sinks(settings: Settings) -> tuple[list[str], list[str]]:
    """URLs of tables, and names of streams."""
    table = [sink.url for sink in settings.sink if isinstance(sink, ParquetSettings)]
    return table, [sink.stream for sink in settings.sink if not isinstance(sink, ParquetSettings)]

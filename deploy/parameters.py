"""Converts a configuration to parameters of ``penstock.yaml``, and finds values that do not fit together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.config.drain import LEAVE_S
from consumer.config.settings import ParquetSettings
from deploy.fargate import SIZES, STOP_TIMEOUT_S, VCPU
from pipeline.machine import gpus
from pipeline.machine.memory import HOST_MIB, JVM_MIB, LEAST_MIB

if TYPE_CHECKING:
    from consumer.config.profile import Profile
    from consumer.config.settings import Settings

APPLICATION = re.compile(r"[a-z][a-z0-9-]{2,40}")
"""The form of an application's name, which is also the name of a repository and a database."""

PREFIX = re.compile(r"[a-z0-9_-]{1,64}")
"""The form of a prefix in the template's bucket."""


@dataclass(frozen=True, slots=True)
class Wish:
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

    @property
    def vcpus(self) -> int:
        """Cores that a task sees, at least 1."""
        return max(1, self.cpu // VCPU)


def problems(settings: Settings, wish: Wish) -> Iterator[str]:
    """Yield a line with the calculation for every value that does not fit."""
    yield from _size(wish) if not wish.gpus else ()
    yield from _memory(settings, wish)
    yield from _leases(settings, wish)
    exit_s = settings.drain.budget_s + LEAVE_S
    if exit_s >= STOP_TIMEOUT_S:
        yield (
            f"drain.budget_s {settings.drain.budget_s:g} s + {LEAVE_S:g} s to exit = {exit_s:g} s, but ECS kills a "
            f"task after {STOP_TIMEOUT_S} s. Lower drain.budget_s"
        )
    yield from _places(settings)


def parameters(settings: Settings, wish: Wish) -> dict[str, str]:
    """The template's parameters, by name. ``ImageTag`` is not among them: each deployment sets it."""
    table, downstream = _sinks(settings)
    given = {
        "Application": settings.stream.application,
        "StreamName": settings.stream.name,
        "DownstreamName": downstream[0] if downstream else "",
        "TablePrefix": prefix_of(table[0]),
        "DeadLetterPrefix": prefix_of(settings.dead_letter.url),
        "Cpu": str(wish.cpu),
        "Memory": str(wish.memory_mib),
        "DesiredCount": str(wish.tasks),
    }
    if wish.shards is not None:
        given["ShardCount"] = str(wish.shards)
    if wish.gpus:
        given["Gpus"] = str(wish.gpus)
    return given


def prefix_of(url: str) -> str:
    """Return the prefix of ``s3://bucket/prefix``, or the name of a folder: the template has its own bucket."""
    return url.removeprefix("s3://").partition("/")[2].strip("/") if url.startswith("s3://") else url.rpartition("/")[2]


def _size(wish: Wish) -> Iterator[str]:
    sold = SIZES.get(wish.cpu)
    if sold is None:
        yield f"cpu {wish.cpu} is not sold by Fargate. Choose one of {', '.join(map(str, SIZES))}"
    elif wish.memory_mib not in sold:
        yield (
            f"memory {wish.memory_mib} MiB is not sold with cpu {wish.cpu}. Choose {sold.start} to {sold[-1]} MiB "
            f"in steps of {sold.step}"
        )


def _memory(settings: Settings, wish: Wish) -> Iterator[str]:
    model = settings.model
    replicas, why = _replicas(settings, wish)
    each_mib = LEAST_MIB if model.memory_mib == "auto" or not model.memory_mib else model.memory_mib
    heap_mib, flying_mib = settings.kcl.java_heap_mib, settings.in_flight.total_mib
    needed_mib = wish.weights_mib + flying_mib + heap_mib + JVM_MIB + HOST_MIB + replicas * each_mib
    if needed_mib > wish.memory_mib:
        yield (
            f"weights {wish.weights_mib} + in_flight.total_mib {flying_mib} + kcl.java_heap_mib {heap_mib} + "
            f"{JVM_MIB} for the JVM + {HOST_MIB} for the host + {replicas} x {each_mib} for replicas{why} "
            f"= {needed_mib} MiB, but a task has {wish.memory_mib}. Raise the memory, or lower one of these"
        )


def _replicas(settings: Settings, wish: Wish) -> tuple[int, str]:
    """Resolve ``auto`` as a task does; with the source of the number if it is not from the configuration."""
    if settings.model.replicas != "auto":
        return settings.model.replicas, ""
    if wish.profile is not None:
        return wish.profile.replicas, " (as tuned)"
    used = gpus.wanted(settings.model.device, wish.gpus)
    return (used, " (one for each GPU)") if used else (1, "")


def _leases(settings: Settings, wish: Wish) -> Iterator[str]:
    if wish.shards is None:
        return
    most = settings.kcl.max_leases
    if wish.tasks > wish.shards:
        yield (
            f"{wish.tasks} tasks for {wish.shards} shards: {wish.tasks - wish.shards} would be idle. Lower the "
            f"tasks, or add shards"
        )
    if most and wish.tasks and most * wish.tasks < wish.shards:
        yield (
            f"kcl.max_leases {most} x {wish.tasks} tasks = {most * wish.tasks}, but there are {wish.shards} "
            f"shards, and the rest is not read. Raise kcl.max_leases or the tasks"
        )


def _places(settings: Settings) -> Iterator[str]:
    table, downstream = _sinks(settings)
    if not APPLICATION.fullmatch(settings.stream.application):
        yield (
            f"stream.application {settings.stream.application}: the template makes a repository of this name, which "
            f"takes 3 to 41 characters of a-z, 0-9 and -, first a letter. Use another name"
        )
    if len(table) != 1 or len(downstream) > 1:
        yield (
            f"{len(table)} Parquet sinks and {len(downstream)} Kinesis sinks, but the template has one table and "
            f"at most one downstream stream. Remove the others"
        )
    for key, url in [*(("sink.url", url) for url in table), ("dead_letter.url", settings.dead_letter.url)]:
        if not PREFIX.fullmatch(prefix_of(url)):
            yield f"{key} {url}: the template takes one prefix of a-z, 0-9, - and _. Use s3://bucket/prefix"


def _sinks(settings: Settings) -> tuple[list[str], list[str]]:
    """URLs of tables, and names of streams."""
    table = [sink.url for sink in settings.sink if isinstance(sink, ParquetSettings)]
    return table, [sink.stream for sink in settings.sink if not isinstance(sink, ParquetSettings)]

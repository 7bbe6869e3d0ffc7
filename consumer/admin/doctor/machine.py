"""Checks of this machine: Java, KCL's jars, cores, memory, disk; and of the model, which runs here."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from consumer.admin.doctor.findings import Finding, green, red, yellow
from consumer.admin.doctor.subject import Subject
from consumer.config import drain, profile
from consumer.config.sink_settings import ParquetSettings
from consumer.kcl import aggregator
from consumer.kcl.java import find_jars, find_java
from pipeline.errors import counted
from pipeline.machine.memory import share_mib

MIB = 1024 * 1024
TESTED_KCL = ("3.1.3",)
LEAST_JAVA = 8
LEAST_DISK_MIB, LITTLE_DISK_MIB = 100, 1024
HEAP_MIB, HEAP_PER_SHARD_MIB = 96, 64
"""MiB of heap that the JVM needs for records of 1 MB, measured; documented at ``kcl.java_heap_mib``."""


def java(subject: Subject) -> Iterator[Finding]:
    """Check that Java exists and starts; raises ``UserError`` if there is none."""
    path = find_java()
    try:
        ran = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield red(f"{path} does not start: {error}", "Install penstock[java], or set JAVA_HOME to a working Java")
        return
    said = ran.stderr + ran.stdout  # JAVA_TOOL_OPTIONS, if set, is the first line
    number = said.partition(' version "')[2].partition('"')[0]
    major = int(number.removeprefix("1.").partition(".")[0].partition("-")[0] or 0)
    if major < LEAST_JAVA:
        yield red(f"{path} is Java {number}, and KCL needs {LEAST_JAVA}", "Install penstock[java], or set JAVA_HOME")
    else:
        yield green(f"Java {number} at {path}")


def jars(subject: Subject) -> Iterator[Finding]:
    """Check that KCL's jars and Penstock's exist; raises ``UserError`` if they do not."""
    folder = find_jars()
    aggregator.jar()
    found = next(folder.glob("amazon-kinesis-client-multilang-*.jar"))
    version = found.stem.rpartition("-")[2]
    if version in TESTED_KCL:
        yield green(f"KCL {version}")
    else:
        fix = f"Install the tested version: pip install 'kclpy-ext~={TESTED_KCL[-1]}'"
        yield yellow(f"KCL {version} has not been tested with Penstock", fix)


def cores(subject: Subject) -> Iterator[Finding]:
    """Compare the model's threads with the cores that the container may use."""
    replicas, threads = profile.counts(subject.settings)
    busy, have = replicas * threads, subject.machine.cores
    said = f"{counted(replicas, 'replica')} x {counted(threads, 'thread')} on {counted(have, 'core')}"
    if busy > 2 * have:
        yield red(f"{said}: most threads wait", f"Lower model.threads to {max(1, have // replicas)}, or use `auto`")
    elif busy > have:
        yield yellow(f"{said}: threads wait for each other", "Lower model.threads or model.replicas, or use `auto`")
    else:
        yield green(said)


def memory(subject: Subject) -> Iterator[Finding]:
    """Check the memory left for each replica; raises ``ConfigError`` with the calculation if it is too little."""
    settings = subject.settings
    replicas, _ = profile.counts(settings)
    if subject.machine.memory_mib is None:
        yield yellow("the memory of this container is unknown", "Set model.memory_mib")
        return
    left = share_mib(
        subject.machine.memory_mib,
        heap_mib=settings.kcl.java_heap_mib,
        in_flight_mib=settings.in_flight.total_mib,
        replicas=replicas,
    )
    wanted = settings.model.memory_mib
    if wanted != "auto" and wanted > left:
        said = f"model.memory_mib {wanted} for {counted(replicas, 'replica')}, and {left} MiB are left for each"
        yield red(said, "Lower it, or give the task more memory")
    else:
        yield green(f"{left} MiB each for {counted(replicas, 'replica')}, of {subject.machine.memory_mib} MiB")


def heap(subject: Subject) -> Iterator[Finding]:
    """Compare the JVM's heap with the shards that a task may have."""
    settings, tasks = subject.settings, subject.running or 1
    share = -(-subject.unfinished // tasks)
    shards = min(share, settings.kcl.max_leases or share)
    needed = HEAP_MIB + HEAP_PER_SHARD_MIB * shards
    have = settings.kcl.java_heap_mib
    said = f"kcl.java_heap_mib {have} for {counted(shards, 'shard')} a task; records of 1 MB need {needed}"
    fix = f"Set kcl.java_heap_mib = {needed}, or lower kcl.max_leases"
    yield green(said) if have >= needed else yellow(said, fix) if 2 * have >= needed else red(said, fix)


def disk(subject: Subject) -> Iterator[Finding]:
    """Check the disk space for what is written here: the run folder, and tables in folders."""
    settings = subject.settings
    urls = [entry.url for entry in settings.sink if isinstance(entry, ParquetSettings)] + [settings.dead_letter.url]
    folders = {Path(tempfile.gettempdir())} | {_existing(Path(url)) for url in urls if not url.startswith("s3://")}
    for folder in sorted(folders):
        free_mib = subject.machine.free_bytes(folder) // MIB
        said, fix = f"{free_mib:,} MiB free in {folder}", "Make room, or give the task more ephemeral storage"
        if free_mib < LEAST_DISK_MIB:
            yield red(said, fix)
        else:
            yield yellow(said, fix) if free_mib < LITTLE_DISK_MIB else green(said)


def model(subject: Subject) -> Iterator[Finding]:
    """Check that the model loads and predicts its example; raises ``UserError`` if it does not."""
    if not subject.loads_model:
        yield yellow("the model was not loaded", "Leave out --no-load")
        return
    loaded = subject.loaded
    for warning in loaded.warnings:
        yield yellow(warning, "See docs/models.md")
    yield green(f"{subject.settings.model.factory} loads in {loaded.took_s:.1f} s")


def drain_time(subject: Subject) -> Iterator[Finding]:
    """Check that a drain ends before the container is killed; raises ``ConfigError`` with the calculation otherwise."""
    settings = subject.settings
    example_s = subject.example.example_s if subject.example else None
    budget = drain.check(settings, example_s)
    if budget is None:
        fix = "Define example() on the model, or set drain.longest_batch_s"
        yield yellow("the time that a drain takes is unknown", fix)
    else:
        yield green(f"{budget}, less than kcl.shutdown_grace_s {budget.grace_s:g} s")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())

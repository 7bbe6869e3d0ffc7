"""The archive that the JVMs of the end-to-end tests share: KCL's classes, read, verified and linked once, and which
methods are hot. With it a JVM's start needs less than half of the CPU time.

It is an ahead-of-time cache, which Java 24 and newer have. A JVM that it does not fit, because Java or a jar has
changed, starts without it. With an older Java the archive is empty. When several pytest processes share the tests
(``-n``), the first end-to-end test makes it, while other tests compute; ``python -m tests.support.class_archive FILE``
makes it, too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from consumer.config.settings import KclSettings
from consumer.kcl import aggregator
from consumer.kcl.java import find_jars, find_java
from consumer.leases import seed, tables
from consumer.local.process import LocalAWS
from tests.e2e import test_kcl_daemon as worker
from tests.e2e.rig import ROOT

VARIABLE = "JAVA_TOOL_OPTIONS"
"""Every JVM reads it."""

BRISK = KclSettings(failover_ms=1_000, idle_between_reads_ms=200)
"""With the default, a JVM that ends by itself waits ten seconds more."""

SILENT = "-Xlog:disable -Xlog:all=error:stderr -XX:+IgnoreUnrecognizedVMOptions"


QUICK = "-XX:-UsePerfData -XX:+UnlockDiagnosticVMOptions -XX:ArchiveRelocationMode=0"
"""No file for jstat, and the archive at the address that it was made for: a tenth of the time before ``main``. What
decides when Java compiles a method gains nothing: later compilation costs the interpreter as much."""


def options(archive: Path) -> str:
    return f"-XX:AOTCache={archive} {QUICK} {SILENT}"


def fits(archive: Path) -> bool:
    """Whether a JVM takes it. No JVM takes one that is older than a jar."""
    return archive.exists() and archive.stat().st_mtime > aggregator.JAR.stat().st_mtime


def share(archive: Path) -> None:
    """Make the archive if none fits: one process makes it, in a process of its own, and others wait for it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with archive.with_suffix(".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not fits(archive):
            subprocess.run([sys.executable, "-m", __name__, str(archive)], check=True, capture_output=True, cwd=ROOT)


def make(archive: Path) -> None:
    """Run a worker on a few records, and keep the classes that it has loaded."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seen, made = Path(folder) / "seen", Path(folder) / archive.name
        os.environ[VARIABLE] = f"-XX:AOTMode=record -XX:AOTConfiguration={seen} {SILENT}"
        consume()
        del os.environ[VARIABLE]
        if not seen.exists():  # Java is too old
            archive.write_bytes(b"")
            return
        command = [str(find_java()), "-XX:AOTMode=create", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += [f"-XX:AOTConfiguration={seen}", f"-XX:AOTCache={made}", *SILENT.split()]
        command += ["-cp", f"{aggregator.jar()}{os.pathsep}{find_jars()}/*"]
        subprocess.run(command, check=True)
        archive.write_bytes(made.read_bytes())


def consume() -> None:
    with LocalAWS(limits=False) as aws:
        os.environ.update(aws.env)
        kinesis, dynamodb, stream = aws.client("kinesis"), aws.client("dynamodb"), worker.STREAM
        kinesis.create_stream(StreamName=stream.name, ShardCount=worker.SHARDS)
        kinesis.get_waiter("stream_exists").wait(StreamName=stream.name, WaiterConfig={"Delay": 0.1})
        tables.make_tables(dynamodb, stream.application)
        seed.seed(dynamodb, kinesis, stream.application, stream.name, stream.start)
        worker.put(aws, 0)
        asyncio.run(life(aws))


async def life(aws: LocalAWS) -> None:
    """The JVM ends by itself, ``failover_ms`` after the drain: one that is killed keeps nothing."""
    async with worker.worker(aws, "first", BRISK) as (daemon, host):
        await host.everything(daemon)
        daemon.terminate()
        await daemon.wait()


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())

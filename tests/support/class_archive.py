"""The class archive that the JVMs of the end-to-end tests share: KCL's classes, read and verified once. It halves the
CPU time of a JVM's start.

``python -m tests.support.class_archive FILE`` makes it. A JVM that it does not fit, because Java or a jar has changed,
starts without it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from consumer.kcl import aggregator
from consumer.kcl.daemon import find_jars, find_java
from consumer.leases import seed, tables
from consumer.local.process import LocalAWS
from tests.e2e import test_kcl_daemon as worker

VARIABLE = "JAVA_TOOL_OPTIONS"
"""Every JVM reads it."""


def options(archive: Path) -> str:
    return f"-XX:SharedArchiveFile={archive} -Xlog:disable -Xlog:all=error:stderr"


def make(archive: Path) -> None:
    """Run a worker on a few records, and keep the classes that it has loaded."""
    with tempfile.TemporaryDirectory() as folder:
        classes, made = Path(folder) / "classes", Path(folder) / archive.name
        os.environ[VARIABLE] = f"-Xshare:off -XX:DumpLoadedClassList={classes}"
        consume()
        del os.environ[VARIABLE]
        command = [str(find_java()), "-Xshare:dump", "-XX:+UseSerialGC", "-Xlog:disable", "-Xlog:all=error:stderr"]
        command += [f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={made}"]
        command += ["-cp", f"{aggregator.jar()}{os.pathsep}{find_jars()}/*"]
        subprocess.run(command, check=True)
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(made.read_bytes())


def consume() -> None:
    with LocalAWS() as aws:
        os.environ.update(aws.env)
        kinesis, dynamodb, stream = aws.client("kinesis"), aws.client("dynamodb"), worker.STREAM
        kinesis.create_stream(StreamName=stream.name, ShardCount=worker.SHARDS)
        kinesis.get_waiter("stream_exists").wait(StreamName=stream.name, WaiterConfig={"Delay": 1})
        tables.make_tables(dynamodb, stream.application)
        seed.seed(dynamodb, kinesis, stream.application, stream.name, stream.start)
        worker.put(aws, 0)
        asyncio.run(worker.life(aws, "first"))


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())

"""Starts the MultiLangDaemon with the stock processor, and reads its progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.freezing import Tree
from benchmarks.stock import Way
from consumer.config.settings import KclSettings, StreamSettings
from consumer.kcl.daemon import MAIN_CLASS, SMALL_HEAP_MIB
from consumer.kcl.java import find_jars, find_java
from consumer.kcl.properties import AwsEndpoints, properties, render

ROOT = Path(__file__).resolve().parents[2]
HEAP_MIB = KclSettings().java_heap_mib
OURS_ALONE = (
    "callProcessRecordsEvenForEmptyRecordList",
    "skipShardSyncAtWorkerInitializationIfLeasesExist",
    "idleTimeBetweenReadsInMillis",
    "shutdownGraceMillis",
    "gracefulLeaseHandoffTimeoutMillis",
)
"""Properties that only we set; stock uses KCL's defaults. Those that only make the start faster are kept, since the
start is not measured.
"""

FAILOVER_MS = 240_000
"""Longer than a program is stopped while another has its turn."""


class Stock:
    """One daemon and its processes. ``folder``: created here. ``threads``: of each process."""

    def __init__(self, stream: str, way: Way, folder: Path, env: dict[str, str], *, threads: int = 1) -> None:
        folder.mkdir(parents=True)
        self.way = way
        self._folder = folder
        command = f"{sys.executable} -m benchmarks.stock.processor {way.model} {folder} {way.calls}"
        command += " --sorts" if way.sorts else ""
        environment = {
            **os.environ,
            **env,
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": str(ROOT),
        }
        config = folder / "kcl.properties"
        settings = StreamSettings(name=stream, application=f"{stream}-{folder.name}")
        config.write_text(render(_properties(settings, command, environment) | {"maxRecords": way.message}))
        flags = [
            f"-Xms{SMALL_HEAP_MIB}m",
            f"-Xmx{HEAP_MIB}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dfile.encoding=UTF-8",
        ]
        with (folder / "daemon.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(find_java()), *flags, "-cp", f"{find_jars()}/*", MAIN_CLASS, "--properties-file", str(config)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.tree = Tree(psutil.Process(self._process.pid), "jvm", "the shards' processes")

    def counts(self) -> list[int]:
        """Return the records predicted since the beginning by each process that has loaded the model."""
        return [int(path.read_text()) for path in self._folder.glob("*.count")]

    def predicted(self) -> int:
        """Return the records predicted by all processes since the beginning."""
        return sum(self.counts())

    def check(self) -> None:
        """Raise ``RuntimeError`` with the end of its log if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError((self._folder / "daemon.log").read_text(errors="replace")[-2000:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all its processes: KCL's own shutdown would wait for its batches."""
        for process in self.tree.processes():
            process.send_signal(signal.SIGKILL)
        self._process.wait()


def _properties(settings: StreamSettings, command: str, env: dict[str, str]) -> dict[str, str | int | bool]:
    values = properties(
        KclSettings(failover_ms=FAILOVER_MS), settings, "stock", command, AwsEndpoints.from_environment(env)
    )
    return {name: value for name, value in values.items() if name not in OURS_ALONE}

"""Start-up of the commands: ``penstock --help``, and ``penstock run`` until it consumes and until its first record.

    python -m benchmarks.startup [--json] [RUNS]

Each is a new process, with its files in the page cache. ``run`` has the real KCL, a local AWS with a stream of one
shard, an application of its own and a model that does nothing; pandas, which pyarrow would import, is hidden, because
an image has none. The processor's time is that of the process and of all that it started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

from benchmarks.alone import run
from benchmarks.figures import Figure
from consumer.local.process import LocalAWS

THIS = Path(__file__).resolve().parent.parent
STREAM = "startup"
HELPS = 5
"""Starts of ``--help`` in a run; their median counts."""

LOOK_S, DEADLINE_S = 0.05, 120.0
CONFIG = """
[stream]
name = "{stream}"
application = "{application}"
[model]
factory = "benchmarks.noop:Noop"
version = "bench"
replicas = 1
threads = 1
[health]
port = 0
[log]
format = "json"
[dead_letter]
url = "{folder}/dead"
[[sink]]
type = "parquet"
url = "{folder}/table"
"""


class Took(NamedTuple):
    """Seconds by the clock, and of the processor."""

    clock_s: float
    processor_s: float


def help_of(checkout: Path) -> Took:
    """From the start of ``penstock --help`` to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(_penstock("--help"), cwd=checkout, env=_environment(checkout), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Took(time.perf_counter() - began, used.ru_utime + used.ru_stime)


def run_of(checkout: Path, aws: LocalAWS, folder: Path) -> dict[str, Took]:
    """From the start of ``penstock run`` to the line in the log that it consumes, and to its first enriched record."""
    config = folder / "penstock.toml"
    config.write_text(CONFIG.format(stream=STREAM, application=folder.name, folder=folder))
    began = time.perf_counter()
    with _task(checkout, aws, config, folder / "log") as process:

        def took() -> Took:
            return Took(time.perf_counter() - began, _spent_s(psutil.Process(process.pid)))

        url = _until(process, lambda: _health_in(folder / "log"))
        consumes = took()
        _until(process, lambda: _enriched(url))
        return {"consumes": consumes, "first": took()}


@contextmanager
def _task(checkout: Path, aws: LocalAWS, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command, environment = _penstock("run", "--config", str(config)), {**_environment(checkout), **aws.env}
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, stderr=said)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)


def _penstock(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "consumer.cli", *arguments]


def _environment(checkout: Path) -> dict[str, str]:
    path = os.pathsep.join([str(THIS / "tests" / "support" / "lean"), str(checkout)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _until(process: subprocess.Popen[bytes], look: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := look()):
        if process.poll() is not None:
            raise RuntimeError(f"penstock run ended with {process.returncode}")
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"penstock run was not ready within {DEADLINE_S:.0f} s")
        time.sleep(LOOK_S)
    return found


def _health_in(log: Path) -> str:
    """The page that the line about consuming names."""
    lines = (line for line in log.read_text().splitlines() if '"health"' in line)
    return next((str(json.loads(line)["health"]) for line in lines), "")


def _enriched(url: str) -> int:
    with suppress(OSError), urllib.request.urlopen(f"{url}/stats", timeout=5) as answer:  # noqa: S310  # our own page
        return int(json.load(answer)["enriched"])
    return 0


def _spent_s(process: psutil.Process) -> float:
    total = float(sum(process.cpu_times()[:4]))
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return total


@contextmanager
def prepared() -> Iterator[Callable[[Path], dict[str, float]]]:
    """A function that measures a checkout once, by the figures' keys."""
    with tempfile.TemporaryDirectory(prefix="penstock-startup-") as root, LocalAWS(limits=False) as aws:
        kinesis = aws.client("kinesis")
        kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        kinesis.get_waiter("stream_exists").wait(StreamName=STREAM)
        kinesis.put_record(StreamName=STREAM, Data=b"{}", PartitionKey="key")

        def once(checkout: Path) -> dict[str, float]:
            helps = [help_of(checkout) for _ in range(HELPS)]
            tasks = run_of(checkout, aws, Path(tempfile.mkdtemp(prefix="startup-", dir=root)))
            return {
                "help_s": median(each.clock_s for each in helps),
                "help_processor_s": median(each.processor_s for each in helps),
                "run_consumes_s": tasks["consumes"].clock_s,
                "run_first_record_s": tasks["first"].clock_s,
                "run_consumes_processor_s": tasks["consumes"].processor_s,
                "run_processor_s": tasks["first"].processor_s,
            }

        yield once


TEXTS = {
    "help_s": "`penstock --help`, from its start to its end",
    "help_processor_s": "of the processor, for `penstock --help`",
    "run_consumes_s": "`penstock run`, from its start until it consumes: the model is warm, KCL starts",
    "run_consumes_processor_s": "of the processor, for `penstock run` with its replica, until it consumes",
    "run_first_record_s": "`penstock run`, from its start until the first record is enriched; KCL takes a lease first",
    "run_processor_s": "of the processor, for `penstock run` with its JVM and its replica, until the first record",
}


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return all figures of this checkout, after one start of each that does not count."""
    with prepared() as once:
        once(THIS)
        found = [once(THIS) for _ in range(runs)]
    bars = {"help_s": 0.3}
    return {
        key: Figure(key, [each[key] for each in found], "s", bars.get(key), at_most=True, text=text)
        for key, text in TEXTS.items()
    }


if __name__ == "__main__":
    run(measure)

"""``penstock demo``: the whole application on one machine, with a local AWS.

It starts a local AWS, creates a stream, puts real text on it, and runs ``penstock run`` until every record is a row.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import click
from rich.console import Console

from consumer.leases import leases
from consumer.local.process import LocalAWS
from examples.demo import report as demo_report
from examples.demo.report import DemoResult
from examples.demo.worker import Worker, last_error
from pipeline.errors import Fatal, UserError
from pipeline.record import Position

STREAM = "docstrings"
APPLICATION = "penstock-demo"
POLL_S = 0.25
PUT_RECORDS = 250
DEADLINE_S = 30 * 60
LEAVE_S = 60


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of ``penstock demo``. ``out``: a folder that is empty or does not exist; None: a new one in
    ``penstock-demo/``. ``broken``: how many records beside ``records`` the model cannot use.
    """

    records: int = 2000
    broken: int = 0
    shards: int = 2
    workers: int = 1
    out: Path | None = None
    seed: int = 0
    json: bool = False


def demo(options: DemoOptions) -> int:
    """Run the demo and return its exit code. Ctrl-C and SIGTERM drain the workers and leave no process behind."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=options.json, highlight=False)
    out = _fresh_folder(options)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        show = stack.enter_context(demo_report.progress(console, options.records + options.broken))
        show("starting a local AWS")
        aws = stack.enter_context(LocalAWS())
        show(f"making a stream of {options.shards} shards")
        _create_stream(aws.client("kinesis"), options.shards)
        workers = stack.enter_context(_workers(options, out, aws.env))
        ends = _put(aws.client("kinesis"), options, show)
        stats, capacity = _watch(workers, lambda: _reached(aws.client("dynamodb"), ends), show, started)
        seconds = time.monotonic() - started
        for worker in workers:
            worker.save_metrics()
        show("draining")
        _leave(workers)
    result = _result(options, out, stats, capacity, seconds)
    if options.json:
        click.echo(json.dumps({"schema": "penstock.demo/1", **asdict(result)}))
    else:
        demo_report.report(console, result, out / "enriched")
    return 0 if result.rows == options.records and result.dead_letters == options.broken else 1


def _fresh_folder(options: DemoOptions) -> Path:
    out = options.out or Path("penstock-demo") / time.strftime("%Y%m%d-%H%M%S")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: not an empty folder. Name one that is empty or does not exist.")
    try:
        (out / "logs").mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}. Use a folder that you may write to.") from None
    return out


def _create_stream(kinesis: Any, shards: int) -> None:
    kinesis.create_stream(StreamName=STREAM, ShardCount=shards)
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


# -- the records


def _put(kinesis: Any, options: DemoOptions, show: demo_report.Show) -> dict[str, Position]:
    """Put the docstrings on the stream. Return the position of each shard's last record."""
    from examples.demo.corpus import broken, mixed, records

    ends: dict[str, Position] = {}
    chosen = mixed(records(options.records, options.seed), broken(options.broken), options.seed)
    waiting = [{"Data": data, "PartitionKey": key} for data, key in chosen]
    done = 0
    while waiting:
        batch, waiting = waiting[:PUT_RECORDS], waiting[PUT_RECORDS:]
        refused = _put_batch(kinesis, batch, ends)
        done += len(batch) - len(refused)
        waiting = refused + waiting
        show("putting docstrings on the stream", records_in=done)
        if refused:
            time.sleep(POLL_S)
    return ends


def _put_batch(kinesis: Any, batch: list[dict[str, Any]], ends: dict[str, Position]) -> list[dict[str, Any]]:
    answers = kinesis.put_records(StreamName=STREAM, Records=batch)["Records"]
    refused = []
    for record, answer in zip(batch, answers, strict=True):
        if "ErrorCode" in answer:
            refused.append(record)
            continue
        position = Position(int(answer["SequenceNumber"]), 0)
        ends[answer["ShardId"]] = max(position, ends.get(answer["ShardId"], position))
    return refused


def _reached(dynamodb: Any, ends: Mapping[str, Position]) -> bool:
    """Whether every shard's checkpoint has reached its last record."""
    with contextlib.suppress(dynamodb.exceptions.ResourceNotFoundException):
        found = {lease.shard_id: lease.checkpoint for lease in leases.read(dynamodb, APPLICATION)}
        return all((at := found.get(shard)) is not None and at >= end for shard, end in ends.items())
    return False


# -- the workers


@contextlib.contextmanager
def _workers(options: DemoOptions, out: Path, env: Mapping[str, str]) -> Iterator[Sequence[Worker]]:
    config = out / "penstock.toml"
    config.write_text(_config(out))
    workers = []
    try:
        for number in range(options.workers):
            log = out / "logs" / f"worker-{number}.jsonl"
            with log.open("wb") as stderr:
                workers.append(Worker(_start(config, stderr, env), log))
        yield workers
    finally:
        _leave(workers)


def _start(config: Path, stderr: Any, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "consumer.cli", "run", "--config", str(config)],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def _config(out: Path) -> str:
    folder = json.dumps(str((out / "enriched").resolve()))
    dead = json.dumps(str((out / "dead-letter").resolve()))
    return f"""\
[stream]
name = "{STREAM}"
application = "{APPLICATION}"

[model]
factory = "examples.minilm:MiniLM"
version = "all-MiniLM-L6-v2"
passthrough = {{ module = "string", name = "string", text = "string" }}

[batch]
max_records = 16

[[sink]]
type = "parquet"
url = {folder}
flush_interval_s = 2

[dead_letter]
url = {dead}

[health]
port = 0

[log]
format = "json"
"""


def _leave(workers: Sequence[Worker]) -> None:
    """Send SIGTERM to each worker and wait. One that does not end is killed with all processes that it started."""
    running = [worker.process for worker in workers if worker.process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    for process in running:
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _watch(
    workers: Sequence[Worker], durable: Callable[[], bool], show: demo_report.Show, started: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Show the workers' totals until everything is durable. Return the last totals, and the capacity while there was
    work.
    """
    first_s = admitted_s = 0.0
    capacity: dict[str, float] = {}
    while True:
        for worker in workers:
            if (code := worker.process.poll()) is not None:
                raise Fatal(f"a worker ended with exit code {code}: {last_error(worker.log)} (its log: {worker.log})")
        now_s = time.monotonic() - started
        stats = [worker.stats() for worker in workers]
        totals = _sum(stats)
        admitted_s = admitted_s or (now_s if totals["records_in"] else 0.0)
        if totals["settled"] < totals["records_in"] or not capacity:
            capacity = _capacity(stats)
        first_s = first_s or (now_s if totals["enriched"] else 0.0)
        show("waiting for the first record" if not totals["records_in"] else "enriching", **totals)
        if totals["checkpointed"] and durable():
            busy_s = time.monotonic() - started - admitted_s
            return {**totals, "first_record_s": first_s, "busy_s": busy_s}, capacity
        if now_s > DEADLINE_S:
            raise Fatal(f"not done after {DEADLINE_S} s. Look into the workers' logs in {workers[0].log.parent}")
        time.sleep(POLL_S)


def _sum(stats: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("records_in", "enriched", "dead_letters", "settled", "durable", "checkpointed", "batches")
    return {name: sum(entry.get(name, 0) for entry in stats) for name in names}


def _capacity(stats: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Where the replicas' time went: the average of the workers that report it."""
    shares = [entry["capacity"] for entry in stats if any(entry.get("capacity", {}).values())]
    return {part: round(fmean(each[part] for each in shares), 4) for part in shares[0]} if shares else {}


def _result(
    options: DemoOptions, out: Path, stats: Mapping[str, float], capacity: dict[str, float], took_s: float
) -> DemoResult:
    import pandas as pd

    ids = pd.read_parquet(out / "enriched", columns=["record_id"])["record_id"]
    dead = sum(len(path.read_bytes().splitlines()) for path in (out / "dead-letter").rglob("*.jsonl"))
    batches = int(stats["batches"])
    return DemoResult(
        records=options.records + options.broken,
        rows=len(ids),
        distinct_record_ids=int(ids.nunique()),
        dead_letters=dead,
        shards=options.shards,
        batches=batches,
        mean_batch=round(stats["settled"] / batches, 2) if batches else 0.0,
        records_per_s=round((options.records + options.broken) / stats["busy_s"], 1),
        took_s=round(took_s, 1),
        first_record_s=round(stats["first_record_s"], 1),
        capacity=capacity,
        out=str(out),
    )

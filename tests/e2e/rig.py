"""Real workers with the real KCL, a real JVM and the local AWS, for the end-to-end tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from consumer.leases import leader_watch, leases
from consumer.local.process import LocalAWS
from pipeline.record import Position
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.4
FLOW_S = 0.5
MINILM = (
    'factory = "examples.minilm:MiniLM"\nversion = "test-1"\nthreads = 1\n'
    'passthrough = { module = "string", name = "string" }'
)
PACED = 'factory = "tests.e2e.models:Paced"\nversion = "test-1"\nthreads = 1'
UP_S = 60
LEAN = ROOT / "tests" / "support" / "lean"
PENSTOCK = (sys.executable, "-m", "consumer.cli")
LEAVE_S = 60


def wait_until(condition: Callable[[], Any], deadline_s: float, what: str) -> Any:
    """Return the condition's first true value. Fails with ``what`` if there is none in time."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(POLL_S)  # between two looks at a condition
    raise AssertionError(f"not within {deadline_s} s: {what}")


def lean(env: Mapping[str, str]) -> dict[str, str]:
    """The rows of a table, without pandas."""
    path = env.get("PYTHONPATH", "")
    if path.startswith(str(LEAN)):
        return dict(env)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [str(LEAN), path]))}


class Worker:
    """One ``penstock run``, in its own process group."""

    def __init__(self, config: Path, log: Path, env: Mapping[str, str], program: Sequence[str] = PENSTOCK) -> None:
        self.log = log
        self.started = time.monotonic()
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*program, "run", "--config", str(config)],
                cwd=ROOT,
                env=lean({**os.environ, **env}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        self._health = ""
        self._id = ""
        self.killed = False

    def entries(self) -> list[dict[str, Any]]:
        """The log, line by line; a line that is not a JSON object fails the test."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stats(self) -> dict[str, Any]:
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        if not self._health:
            self._health = next((entry["health"] for entry in self.entries() if "health" in entry), "")
        if not self._health:
            return defaultdict(int)
        try:
            return defaultdict(int, json.loads(self.get("/stats")[1]))
        except OSError:
            return defaultdict(int)

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{self._health}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    @property
    def id(self) -> str:
        """The worker's name in KCL; empty before it starts to consume."""
        if not self._id:
            said = [str(entry["msg"]).split() for entry in self.entries()]
            self._id = next((words[1] for words in said if words[:1] == ["worker"] and "consumes" in words), "")
        return self._id

    def tree(self) -> dict[str, list[psutil.Process]]:
        """The worker's processes by kind: ``jvm``, ``replica``, ``keeper`` (of a replica), ``bridge``."""
        found: dict[str, list[psutil.Process]] = {"jvm": [], "replica": [], "bridge": []}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                kind = kind_of(child.cmdline())
                if kind == "replica" and child.ppid() == self.process.pid:
                    kind = "keeper"  # which forked the replica: their command lines are the same
                found.setdefault(kind, []).append(child)
        return found

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def leave(self, deadline_s: float = LEAVE_S) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.process.wait(deadline_s)

    def kill(self) -> None:
        """Kill only the host with SIGKILL; the processes that it started must end by themselves."""
        left = [child for kind in self.tree().values() for child in kind]
        self.killed = True
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(left, timeout=15)
        assert not alive, f"outlived the host: {alive}"

    def freeze(self) -> None:
        """Send SIGSTOP to the host and every process below it, including new ones."""
        stopped: set[int] = set()
        while left := {self.process.pid, *(child.pid for kind in self.tree().values() for child in kind)} - stopped:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= left

    def thaw(self) -> None:
        """Send SIGCONT to all of them, and to any that are still stopped."""
        for pid in [self.process.pid, *(child.pid for kind in self.tree().values() for child in kind)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def clean(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.leave(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def kind_of(command: Sequence[str]) -> str:
    line = " ".join(command)
    for kind, mark in {
        "jvm": "MultiLangDaemon",
        "replica": "pipeline.model_process.keeper",
        "bridge": "bridge.py",
    }.items():
        if mark in line:
            return kind
    return "other"


class Rig:
    """A stream, an application and a folder on a local AWS."""

    def __init__(self, aws: LocalAWS, name: str, folder: Path) -> None:
        self.aws = aws
        self.name = name
        self.folder = folder
        self.workers: list[Worker] = []
        self.ends: dict[str, Position] = {}
        self.put_ids: set[str] = set()
        self.kinesis = aws.client("kinesis")
        self.dynamodb = aws.client("dynamodb")
        self.table = folder / "enriched"

    # -- the stream

    def create(self, shards: int) -> None:
        self.kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        self.active()

    def active(self) -> None:
        summary = self.kinesis.describe_stream_summary
        wait_until(
            lambda: summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE",
            15,
            "the stream is active",
        )

    def put(self, records: Iterable[tuple[bytes, str | None]]) -> list[str]:
        """Put records, 100 per call, and repeat refused ones. Return the record ids, unless records are aggregated."""
        waiting = [{"Data": data, "PartitionKey": key} if key else {"Data": data} for data, key in records]
        ids = []
        while waiting:
            batch, waiting = waiting[:100], waiting[100:]
            answers = self.kinesis.put_records(StreamName=self.name, Records=batch)["Records"]
            for record, answer in zip(batch, answers, strict=True):
                if "ErrorCode" in answer:
                    waiting.append(record)
                    continue
                shard, sequence = answer["ShardId"], answer["SequenceNumber"]
                ids.append(f"{self.name}/{shard}/{sequence}/0")
                self.ends[shard] = max(Position(int(sequence), 0), self.ends.get(shard, Position(0, 0)))
        self.put_ids.update(ids)
        return ids

    @contextlib.contextmanager
    def flowing(self, per_second: float) -> Iterator[None]:
        """Put records at this rate during the block, some at a time, with keys for every shard."""
        over = threading.Event()
        some = max(1, round(per_second * FLOW_S))

        def produce() -> None:
            for start in itertools.count(step=some):
                self.put((b'{"text": "flowing %d"}' % n, f"{n}") for n in range(start, start + some))
                if over.wait(some / per_second):
                    return

        with ThreadPoolExecutor(1) as thread:
            producer = thread.submit(produce)
            try:
                yield
            finally:
                over.set()
            producer.result()

    def shards(self) -> list[dict[str, Any]]:
        return list(self.kinesis.list_shards(StreamName=self.name)["Shards"])

    def reshard(self, count: int) -> None:
        self.kinesis.update_shard_count(StreamName=self.name, TargetShardCount=count, ScalingType="UNIFORM_SCALING")
        self.active()

    def distributes_by_itself(self) -> None:
        """From now on, keys are optional and have no meaning."""
        arn = self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamARN"]
        self.kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        self.active()
        self.kinesis.update_stream_record_distribution_strategy(StreamARN=arn, RecordDistributionStrategy="AUTO")
        self.active()

    def read(self, stream: str) -> list[dict[str, Any]]:
        """All rows on a stream of one shard."""
        shard = self.kinesis.list_shards(StreamName=stream)["Shards"][0]["ShardId"]
        start = self.kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        found: list[dict[str, Any]] = []
        at = [start["ShardIterator"]]

        def caught_up() -> bool:
            answer = self.kinesis.get_records(ShardIterator=at[0])
            at[0] = answer["NextShardIterator"]
            found.extend(json.loads(record["Data"]) for record in answer["Records"])
            return bool(answer["MillisBehindLatest"] == 0)

        wait_until(caught_up, 20, f"{stream} read to its end")
        return found

    # -- the workers

    def config(self, **sections: str) -> Path:
        """A configuration with a slow model and Parquet. ``sections`` adds TOML to a section, or a new section; a text
        with a factory, or with the pause between two reads, replaces it."""
        texts = {
            "stream": f'name = "{self.name}"\napplication = "{self.name}"',
            "model": PACED,
            "batch": "max_records = 16",
            "health": "port = 0",
            "kcl": "idle_between_reads_ms = 1000",  # an idle JVM needs a third less of the processor
            "dead_letter": f'url = "{self.folder / "dead-letter"}"',
            "log": 'format = "json"',
        }
        sinks = sections.pop("sinks", f'[[sink]]\ntype = "parquet"\nurl = "{self.table}"\nflush_interval_s = 2')
        for name, text in sections.items():
            texts[name] = text if "factory" in text or "idle_between" in text else f"{texts.get(name, '')}\n{text}"
        path = self.folder / f"penstock-{len(list(self.folder.glob('*.toml')))}.toml"
        path.write_text("\n\n".join([*(f"[{name}]\n{text}" for name, text in texts.items()), sinks]))
        return path

    def start(self, config: Path | None = None, program: Sequence[str] = PENSTOCK, **env: str) -> Worker:
        log = self.folder / f"worker-{len(self.workers)}.jsonl"
        worker = Worker(config or self.config(), log, {**self.aws.env, **env}, program)
        self.workers.append(worker)
        return worker

    def total(self, name: str) -> int:
        return sum(int(worker.stats()[name]) for worker in self.workers if worker.process.poll() is None)

    def enriched(self, count: int, deadline_s: float = UP_S) -> None:
        """Return when the running workers have enriched this many records."""
        wait_until(lambda: self.total("enriched") >= count, deadline_s, f"{count} records enriched")

    # -- what became of the records

    def leases(self) -> dict[str, leases.Lease]:
        with contextlib.suppress(self.dynamodb.exceptions.ResourceNotFoundException):
            return {lease.shard_id: lease for lease in leases.read(self.dynamodb, self.name)}
        return {}

    def owners(self) -> dict[str, str]:
        """The owner of each open shard."""
        closed = {shard["ShardId"] for shard in self.shards() if "EndingSequenceNumber" in shard["SequenceNumberRange"]}
        return {
            shard_id: lease.owner for shard_id, lease in self.leases().items() if lease.owner and shard_id not in closed
        }

    def all_durable(self) -> bool:
        """Whether every shard's checkpoint has reached its last record, or its end."""
        found = self.leases()
        return all(
            (lease := found.get(shard))
            and (lease.ended or (lease.checkpoint and lease.checkpoint.end_of_record >= end))
            for shard, end in self.ends.items()
        )

    def settle(self, deadline_s: float = 180) -> None:
        """Return when everything put is checkpointed."""

        def look() -> bool:
            for worker in [worker for worker in self.workers if not worker.killed][-1:]:
                worker.stats()
            return self.all_durable()

        wait_until(look, deadline_s, "every shard checkpointed to its last record")

    def rows(self) -> pd.DataFrame:
        return pd.read_parquet(self.table)

    def dead_letters(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "dead-letter").rglob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def expect_each_once(self) -> pd.DataFrame:
        """Check that every record put is exactly one row, and that the auditor reports no problem. Return the rows."""
        rows = self.rows()
        assert sorted(rows["record_id"]) == sorted(self.put_ids)
        report = audit(FolderStore(self.table), FolderStore(self.folder / "dead-letter"))
        assert report.problems == []
        return rows

    def leader(self) -> str:
        """The id of the worker that has the leader's lock."""
        with contextlib.suppress(self.dynamodb.exceptions.ResourceNotFoundException):
            return leader_watch.observe(self.dynamodb, self.name, close=False).leader
        return ""

    def forget_leader(self) -> None:
        """Skip the 120 s for which a killed leader's lock is valid. Only if its holder is dead."""
        table = f"{self.name}-CoordinatorState"
        item = self.dynamodb.get_item(TableName=table, Key={"key": {"S": "Leader"}}).get("Item")
        if item is not None:
            self.dynamodb.delete_item(
                TableName=table,
                Key={"key": {"S": "Leader"}},
                ConditionExpression="ownerName = :owner",
                ExpressionAttributeValues={":owner": item["ownerName"]},
            )

    def clean(self) -> None:
        for worker in self.workers:
            worker.clean()

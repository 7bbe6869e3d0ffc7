"""A task that dies of a record, in the layer that the test names.

Production's session, notes, stage and careful reader, with fakes that outlive the task in FOLDER: a lease, and a sink
of lines. It reads the shard to its end and exits with 0, or it ends by SIGKILL or an error, depending on the layer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson

from consumer.config.settings import StreamSettings
from consumer.kcl import bridge, protocol
from consumer.kcl.bridge_server import BridgeServer
from consumer.kcl.protocol import Message
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Gone, Wire
from consumer.leases.leases import Lease
from consumer.poison import reader as careful
from consumer.poison.careful_readings import CarefulReadings
from consumer.poison.doubt import Doubt, written
from consumer.poison.notes import LeaseNotes, Noted
from consumer.poison.pages import LeasePages
from consumer.poison.reader import PoisonReader
from consumer.poison.session_notes import Doubts
from consumer.testing import FakeKcl, aggregate, row
from pipeline import background
from pipeline.aggregate import aggregate_or_record
from pipeline.batching.batcher import Batcher
from pipeline.errors import Broken
from pipeline.flow.bounds import Bounds
from pipeline.judge import Judge
from pipeline.metrics import Metrics
from pipeline.outages import Outages
from pipeline.record import Dead, Position, Record, Run, Shard
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.host import ModelHost
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.sinks import OnDurable
from pipeline.stage import Stage
from pipeline.stores.calls import SureCalls, Threads
from pipeline.stores.folder import FolderStore
from pipeline.testing.fake_ports import FakeJudge, FakeSink, FakeWriter
from pipeline.testing.model_settings import host_settings
from tests.support.hosts import ROOT, kill_host
from tests.support.models import Toy

SHARD = Shard("events", 1, "shardId-000000000000")
GIVE_UP_AFTER = 5
MESSAGE = 40
COUNT, DEADLY = 300, 150
LAYERS = ("jvm", "bridge", "protocol", "order", "look", "decode", "model", "sink", "letter")
SKIPPED = ("jvm", "bridge", "protocol", "order")
"""Layers of KCL's part: the careful reader does not use them, so the record gets its row."""

BRIDGE = Path(bridge.__file__)
LINE_BYTES = 1 << 26

KILLS = b'"kills"'


def payload(number: int) -> bytes:
    return json.dumps({"n": number, "do": "kills" if number == DEADLY else "well"}).encode()


def raw(sequence: int, data: bytes) -> dict[str, Any]:
    """The record in the form of GetRecords."""
    arrived = datetime(2026, 11, 27, tzinfo=UTC)
    return {"SequenceNumber": str(sequence), "Data": data, "ApproximateArrivalTimestamp": arrived}


def stream(aggregated: bool) -> list[dict[str, Any]]:
    """The records one by one, or ten in each."""
    if not aggregated:
        return [raw(1000 + n, payload(n)) for n in range(COUNT)]
    return [raw(1000 + n, aggregate(map(payload, range(n, n + 10)))) for n in range(0, COUNT, 10)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FakeKinesis:
    """Reads one shard. Its iterators are positions in it."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self._records = records

    def get_shard_iterator(self, **asked: str) -> dict[str, str]:
        after = int(asked.get("StartingSequenceNumber", "0"))
        return {"ShardIterator": str(sum(int(each["SequenceNumber"]) <= after for each in self._records))}

    def get_records(self, **asked: Any) -> dict[str, Any]:
        begin = int(asked["ShardIterator"])
        found = self._records[begin : begin + asked["Limit"]]
        end = begin + len(found)
        left = len(self._records) - end
        return {"Records": found, "NextShardIterator": str(end), "MillisBehindLatest": left}


class FileNotes:
    """:class:`LeaseNotes` in a file, for one task at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> Iterator[Noted]:
        yield self.read(SHARD.shard_id)

    def read(self, shard_id: str) -> Noted:
        at = json.loads(self._path.read_text()) if self._path.exists() else {}
        checkpoint = Position.parse(at["checkpoint"]) if "checkpoint" in at else None
        lease = Lease(shard_id, at.get("owner", ""), 1, checkpoint, "" if checkpoint else "TRIM_HORIZON", (), (), "")
        return Noted(lease, at.get("note", ""))

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool:
        self.change(note=written(doubt))
        return True

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        self.change(owner=holder, note=written(doubt))
        return True

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        self.change(note=written(doubt), **({"checkpoint": str(checkpoint)} if checkpoint else {}))
        return True

    def keep(self, shard_id: str, holder: str) -> bool:
        return True

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        self.change(owner="", note=written(doubt))
        return True

    def change(self, **fields: str) -> None:
        at = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._path.with_suffix(".new").write_text(json.dumps(at | fields))
        self._path.with_suffix(".new").replace(self._path)


class LineSink(FakeSink):
    """One line per record in a file, durable at once."""

    def __init__(self, path: Path, deadly: Callable[[Record], bool]) -> None:
        super().__init__("lines")
        self.path = path
        self.deadly = deadly

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> LineWriter:
        return LineWriter(self, shard, on_durable)


class LineWriter(FakeWriter):
    def __init__(self, sink: LineSink, shard: Shard, on_durable: OnDurable) -> None:
        super().__init__(sink, shard, on_durable)
        self._lines = sink
        self._on = on_durable

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        lines = self._lines.path.read_text().splitlines() if self._lines.path.exists() else []
        return Position.parse(json.loads(lines[-1])["at"]) if lines else None

    def write(self, run: Run) -> None:
        if any(map(self._lines.deadly, run.records)):
            die()
        with self._lines.path.open("a") as file:
            file.writelines(json.dumps(told(record)) + "\n" for record in run.records)
        self._on(run.end)

    async def flush(self) -> None:
        return


def told(record: Record) -> dict[str, str]:
    outcome = record.outcome
    if not isinstance(outcome, Dead):
        return {"at": str(record.position)}
    text = base64.b64encode(outcome.payload).decode()
    return {"at": str(record.position), "kind": outcome.kind, "reason": outcome.reason, "payload": text}


class DeadlyJudge(FakeJudge):
    """Kills the host during the batch."""

    async def settle(self, records: Sequence[Record]) -> None:
        if any(KILLS in record.data for record in records):
            die()
        await super().settle([record for record in records if record.outcome is None])


class KillsHost(Toy):
    """A model that kills the host as well, as a kernel does that kills a container because of one record's memory."""

    def one(self, item: Any, beside: int) -> Any:
        if item["do"] == "kills":
            kill_host()
        return super().one(item, beside)


class KillsHostInDecode(Toy):
    """Kills when costs are measured, or whenever a payload is decoded."""

    def decode(self, data: bytes) -> Any:
        if KILLS in data:
            kill_host()
        return json.loads(data)

    def cost(self, item: Any) -> int:
        return 1


MODELS = {"model": KillsHost, "decode": KillsHostInDecode}


class Dying:
    """One task."""

    def __init__(self, folder: Path, layer: str, records: Sequence[dict[str, Any]]) -> None:
        self.folder, self.layer, self.records = folder, layer, records
        self.me = f"task-{os.getpid()}"
        self.notes = FileNotes(folder / "lease.json")
        self.metrics = Metrics()
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def main(self) -> None:
        notes = cast("LeaseNotes", self.notes)
        doubts = Doubts(notes, self.me, lambda shard_id: None)
        past = CarefulReadings(notes, doubts, failover_s=-0.99)
        judge, stop = await self._judge()
        sink = LineSink(self.folder / "lines", self._deadly)
        batcher = Batcher(max_records=16, max_cost=0, linger_s=0.001)
        stage = Stage(judge, batcher, [sink], Bounds(1000, 1 << 26), self.metrics)
        running = background.start(stage.run, name="the stage", on_failure=self._fail, endless=True)
        kinesis: Any = FakeKinesis(self.records)
        pages = LeasePages(lambda: kinesis, cast("StreamSettings", _Stream()))
        reader = PoisonReader(
            stage,
            notes,
            pages,
            lambda shard_id: SHARD,
            self.me,
            give_up_after=GIVE_UP_AFTER,
            reads_ahead=6 * MESSAGE,
            on_event=self.metrics.model.note,
        )
        try:
            await past.at_start(reader, self._failing)
            self.notes.change(owner=self.me)
            await background.first_of(partial(self._as_ever, stage, doubts), self._failing)
        except Exception as error:
            await past.note_end(error, self.me, [SHARD.shard_id])
            raise
        finally:
            running.cancel()
            await stop()

    async def _failing(self) -> None:
        raise await asyncio.shield(self.failure)

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def _judge(self) -> tuple[Judge, Callable[[], Awaitable[object]]]:
        if self.layer not in MODELS:
            judge = DeadlyJudge() if self.layer == "letter" else FakeJudge()
            return judge, partial(asyncio.sleep, 0)
        threads = Threads("suspects")

        async def switches(shard_id: str) -> int:
            return 0

        suspects = CrashJournal(
            FolderStore(self.folder / "suspects"),
            SureCalls(threads, Outages().part("suspects")),
            switches=switches,
        )
        factory = f"tests.support.dying_task:{MODELS[self.layer].__name__}"
        host = ModelHost(host_settings(factory, search_path=(str(ROOT),)), notes=suspects)
        await host.start()
        return JournaledHost(host, suspects, retries=1, on_event=self.metrics.model.note), host.stop

    def _deadly(self, record: Record) -> bool:
        outcome = record.outcome
        if self.layer == "letter":
            return isinstance(outcome, Dead) and KILLS in outcome.payload
        return self.layer == "sink" and not isinstance(outcome, Dead) and KILLS in (record.data or self._data(record))

    def _data(self, record: Record) -> bytes:
        """The payload of a settled record is dropped."""
        n = int(record.sequence) - 1000 + record.sub
        return payload(n)

    # -- KCL's way

    async def _as_ever(self, stage: Stage, doubts: Doubts) -> None:
        checkpoint = self.notes.read(SHARD.shard_id).lease.checkpoint

        def session(wire: Wire) -> ShardSession:
            return ShardSession(
                wire, stage, lambda shard_id: SHARD, asyncio.Event(), self.metrics.records, _decode, doubts=doubts
            )

        with tempfile.TemporaryDirectory() as place:
            bridges = BridgeServer(session)
            await bridges.listen(Path(place) / "s")
            kcl = FakeKcl()
            bridge = await self._bridge(kcl, Path(place) / "s")
            try:
                await background.first_of(partial(self._shard, kcl, bridge, checkpoint), partial(_raise, bridges))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    bridge.kill()
                await bridge.wait()
                await bridges.close()

    async def _bridge(self, kcl: FakeKcl, path: Path) -> asyncio.subprocess.Process:
        """The real bridge, between KCL's messages and the host's socket."""
        pipe = asyncio.subprocess.PIPE
        bridge = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(BRIDGE), str(path), stdin=pipe, stdout=pipe, limit=LINE_BYTES
        )
        assert bridge.stdin is not None and bridge.stdout is not None
        said, heard = bridge.stdin, bridge.stdout

        async def say() -> None:
            with contextlib.suppress(Gone, ConnectionError):
                while True:
                    said.write(await kcl.read())
                    await said.drain()

        async def hear() -> None:
            async for line in heard:
                await kcl.write(line)

        for work in (say, hear):
            background.start(work, name=work.__name__, on_failure=self._fail)
        return bridge

    async def _shard(self, kcl: FakeKcl, bridge: asyncio.subprocess.Process, checkpoint: Position | None) -> None:
        after = checkpoint.sequence if checkpoint else 0
        await kcl.initialize(SHARD.shard_id, str(after) if checkpoint else "TRIM_HORIZON")
        left = [each for each in self.records if int(each["SequenceNumber"]) > after]
        for begin in range(0, len(left), MESSAGE):
            message = left[begin : begin + MESSAGE]
            await self._hand_over(kcl, bridge, message, len(left) - begin - len(message))
        await kcl.say("shardEnded")
        self._checkpointed(kcl)
        self.notes.change(owner="")

    async def _hand_over(
        self, kcl: FakeKcl, bridge: asyncio.subprocess.Process, message: Sequence[dict[str, Any]], behind: int
    ) -> None:
        rows = [row(int(each["SequenceNumber"]), each["Data"], key=None) for each in message]
        if any(KILLS in each["Data"] for each in message):
            if self.layer == "jvm":
                raise Broken("the JVM ended by itself (exit status 137)")
            if self.layer == "bridge":
                assert bridge.stdin is not None
                bridge.stdin.write(orjson.dumps({"action": "processRecords", "records": rows})[:-100])
                await asyncio.sleep(0.05)
                bridge.kill()
                await asyncio.sleep(60)
            if self.layer == "protocol":
                rows[-1]["data"] = 7
            if self.layer == "order":
                await kcl.initialize(SHARD.shard_id)
        await kcl.process(rows, behind)
        self._checkpointed(kcl)

    def _checkpointed(self, kcl: FakeKcl) -> None:
        if kcl.checkpoints and kcl.checkpoints[-1] is not None:
            self.notes.change(checkpoint=str(kcl.checkpoints[-1]))


class _Stream:
    name, start = "events", "TRIM_HORIZON"


async def _raise(bridges: BridgeServer) -> None:
    raise await bridges.failure


async def _decode(line: bytes, decode: Callable[[], Message]) -> Message:
    return decode()


def _look_or_die(record: Record) -> Record:
    if KILLS in record.data:
        die()
    return aggregate_or_record(record)


def task(folder: Path, layer: str, aggregated: bool) -> None:
    """Runs in a separate process. ``aggregated``: ten user records in each record of the stream."""
    if layer == "look":
        setattr(careful, "aggregate_or_record", _look_or_die)  # noqa: B010  # mypy knows no such name there
        setattr(protocol, "aggregate_or_record", _look_or_die)  # noqa: B010
    asyncio.run(_task(folder, layer, aggregated))


async def _task(folder: Path, layer: str, aggregated: bool) -> None:
    await Dying(folder, layer, stream(aggregated)).main()

"""The promises of the simulated application, at any time and at the end. The names are those in
docs/architecture.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import orjson

from consumer.testing import FakeLease, FakeStream
from consumer.testing.fake_worker import Child
from pipeline.record import Position
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from tests.simulation.app_model import FLAKY, GOOD
from tests.simulation.app_settings import STREAM, Settings
from tests.simulation.app_task import Task
from tests.simulation.asked_once import ids

ANSWER_S = 5.0
"""Seconds that a message may wait for its status while there is room."""

MESSAGES = 5
"""Number of records of a shard that may exceed the limit: a session's first messages are answered at once."""

SUBS = 4
"""Maximum number of user records in an aggregate of the world; one that is not taken apart yet counts as this many."""

RECORD_BYTES = 20_000
"""Bytes by which a record may grow when it settles: its share of a row, or a dead letter with its traceback."""


class Promises:
    """Sees every write when it happens. ``broken``: the first promise that was broken, if any."""

    def __init__(self, stream: FakeStream, settings: Settings, notes: MemoryStore) -> None:
        self.broken = ""
        self.notes = notes
        self.stream = stream
        self.settings = settings
        self.rows: dict[str, str] = {}
        """Each row's record, and the file that holds it."""
        self.letters: set[str] = set()
        self.blamed: set[str] = set()
        """Dead letters of records of which tasks seem to have died; in a storm that may be an accident."""
        self.kinds: dict[str, str] = {}
        """The records that were produced, and the model's result for each."""
        self.sent: set[str] = set()
        """Records whose row is downstream at least once."""
        self.last_sent: dict[tuple[str, str], Position] = {}
        """The records of each shard and key, in the order of their first appearance."""
        self.order: dict[str, list[Position]] = {}
        """The records of each file's rows."""
        self._durable_below: dict[str, int] = {}
        self._seen: set[str] = set()
        self._since: WeakKeyDictionary[Child, float] = WeakKeyDictionary()
        """Since when there has been room for a message that waits."""

    def breaks(self, what: str) -> None:
        self.broken = self.broken or what

    def produced(self, shard_id: str, positions: Sequence[Position], kinds: Sequence[str]) -> None:
        self.kinds.update((_id(shard_id, position), kind) for position, kind in zip(positions, kinds, strict=True))

    # -- as it happens

    def file_written(self, key: str, body: bytes) -> None:
        """I3: a reader of the table now sees this whole file, and no record twice."""
        if key in self._seen:
            return
        self._seen.add(key)
        for each in ids(body):
            if each in self.rows:
                self.breaks(f"I3: {each} is in {self.rows[each]} and in {key}")
            self.rows[each] = key
        self.order[key] = [Position.parse(each.split("/", 2)[2]) for each in ids(body)]

    def letters_written(self, key: str, body: bytes) -> None:
        if key not in self._seen:
            self._seen.add(key)
            letters = [orjson.loads(line) for line in body.splitlines()]
            self.letters.update(letter["record_id"] for letter in letters)
            self.blamed.update(letter["record_id"] for letter in letters if "tasks ended" in letter["reason"])

    def row_sent(self, key: str, data: bytes) -> None:
        """I4 downstream: rows of a key and a shard first appear in sequence order; but the model may accept a record
        that was a dead letter in an earlier task."""
        record_id = orjson.loads(data)["record_id"]
        if record_id in self.sent or self.kinds[record_id] == FLAKY or record_id in self.blamed:
            return
        self.sent.add(record_id)
        _, shard_id, position = record_id.split("/", 2)
        last, at = self.last_sent.get((shard_id, key)), Position.parse(position)
        if last is not None and at < last:
            self.breaks(f"I4: {record_id} comes downstream after {last}")
        self.last_sent[shard_id, key] = at

    def put_by(self, task: Task, key: str) -> None:
        """A task that knows that it has lost a shard starts no write for it."""
        if (worker := task.worker) is None:
            return
        shard_id = key.rpartition("/")[2].partition("-")[2].rsplit("-", 2)[0]
        told_s = worker.told_s.get(shard_id)
        if told_s is not None and shard_id not in worker.children and task.process.called_at > told_s:
            self.breaks(f"{task.name} goes on writing {key}, though it was told that the shard is not its any more")

    def checkpointed(self, lease: FakeLease, position: Position | str) -> None:
        """I1: everything up to the checkpoint is durable before it is written. For KCL an aggregate is one record."""
        shard = self.stream.shards[lease.shard_id]
        at = self._durable_below.get(lease.shard_id, 0)
        if isinstance(lease.checkpoint, Position) and isinstance(position, Position) and position < lease.checkpoint:
            self.breaks(f"{lease.shard_id}: checkpoint {position} goes back")
        while at < len(shard.positions) and (
            not isinstance(position, Position) or shard.positions[at].sequence <= position.sequence
        ):
            if missing := self._missing(_id(lease.shard_id, shard.positions[at])):
                self.breaks(f"I1: checkpoint {position} passes {missing}")
            at += 1
        self._durable_below[lease.shard_id] = at

    def _missing(self, record_id: str) -> str:
        """It is not known which verdict on a flaky record counted, so it may be missing downstream."""
        if record_id not in self.rows and record_id not in self.letters:
            return f"{record_id}, which is not durable"
        is_due = self.settings.downstream and self.kinds[record_id] == GOOD and record_id not in self.sent
        return f"{record_id}, which is not downstream" if is_due and not self._suspect(record_id) else ""

    def _suspect(self, record_id: str) -> bool:
        """Whether tasks may have died of it, so that one task made it a dead letter while another one wrote its row."""
        _, shard_id, position = record_id.split("/", 2)
        sequence, sub = position.split("/")
        noted = f'["{sequence}",{sub}]'.encode()
        return any(f"-{shard_id}/" in key and noted in body for key, (body, _) in self.notes.objects.items())

    def look(self, tasks: Iterable[Task]) -> None:
        """I6 and I7 of every task, at this time."""
        for task in tasks:
            if task.stage is not None and task.worker is not None and not task.process.frozen:
                self._bounds(task)
                self._answers(task)

    def _bounds(self, task: Task) -> None:
        assert task.stage is not None
        settings, loads = self.settings, task.stage.in_flight()
        for shard_id, (records, *_) in loads.items():
            if records >= settings.window_records + MESSAGES * (settings.read_limit * SUBS + 4):
                self.breaks(f"I6: {task.name} has {records} records of {shard_id} in flight")
        slack = (settings.window_records + MESSAGES * (settings.read_limit * SUBS + 4)) * RECORD_BYTES * len(loads)
        if task.stage.bytes > settings.window_bytes + slack:
            self.breaks(f"I6: {task.name} holds {task.stage.bytes} bytes")

    def _answers(self, task: Task) -> None:
        assert task.worker is not None and task.stage is not None
        now = task.process.loop.time()
        for child in task.worker.children.values():
            records, *_ = task.stage.in_flight().get(child.shard_id, (0, 0))
            room = records < self.settings.window_records and task.stage.bytes < self.settings.window_bytes / 2
            if child.asked != "processRecords" or not (room or task.leaving.is_set()):
                self._since.pop(child, None)
            elif now - max(child.asked_s, self._since.setdefault(child, now)) > ANSWER_S:
                self.breaks(f"I7: {task.name} leaves {child.shard_id} without a status, though there is room")

    # -- in the end

    def check(self, table: MemoryStore, letters: MemoryStore) -> None:
        self._exactly_once()
        self._in_order()
        if problems := audit(table, letters).problems:
            self.breaks(f"the auditor says {problems[0]}")

    def _exactly_once(self) -> None:
        """I2; I3 has shown that no row is there twice. And I5: no healthy record is dead, and no bad one a row."""
        for record_id, kind in self.kinds.items():
            is_row, is_dead = record_id in self.rows, record_id in self.letters
            if is_row == is_dead:
                self.breaks(f"I2: {record_id} is {'both' if is_row else 'neither'} of a row and a dead letter")
            if kind != FLAKY and record_id not in self.blamed and is_row != (kind == GOOD):
                self.breaks(f"I5: {record_id} is {kind}, and {'a row' if is_row else 'a dead letter'}")
        if len(self.rows) + len(self.letters) != len(self.kinds):
            self.breaks(f"I2: {len(self.kinds)} records, {len(self.rows)} rows and {len(self.letters)} dead letters")

    def _in_order(self) -> None:
        """I4: shard by shard, file by file in the order of their names."""
        last: tuple[str, Position] | None = None
        for key in sorted(self.order, key=lambda key: key.rpartition("/")[2]):
            shard = key.rpartition("/")[2].rsplit("-", 2)[0]
            positions = self.order[key]
            if any(later <= earlier for earlier, later in pairwise(positions)):
                self.breaks(f"I4: rows of {key} are not in order")
            if positions and last is not None and last[0] == shard and positions[0] <= last[1]:
                self.breaks(f"I4: {key} begins before the previous file ends")
            if positions:
                last = (shard, positions[-1])


def _id(shard_id: str, position: Position) -> str:
    return f"{STREAM}/{shard_id}/{position.sequence}/{position.sub}"

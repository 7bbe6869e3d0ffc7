"""Sends rows to a downstream stream: at least once, in order for each key.

Exactly-once is not possible here: a response can be lost, and Kinesis has no conditional put. So every row carries its
``record_id``, by which a reader can drop duplicates. Rows keep the partition key of their source record if Kinesis
accepts it (:mod:`pipeline.sinks.partition_keys`). Rows of one key and one source shard first appear in sequence order.
There is no order between keys, as there is none between shards. The price: with a single key, each call sends one row.

A row that the stream cannot store (too large, a value that JSON cannot express, or refused by itself) becomes a dead
letter of this sink (:mod:`pipeline.sinks.refused`). The letter is durable before its record counts as durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from pipeline import background
from pipeline.dead_letters.limit import NO_LIMITS, Limits, Tally
from pipeline.errors import Fatal, UserError, counted
from pipeline.outages import Outages
from pipeline.record import Position, Record, Run, Shard
from pipeline.sinks import NOBODY, OnDurable, SinkEvents
from pipeline.sinks.json_rows import Unwritable
from pipeline.sinks.kinesis_rows import RowLoad, loads_of, size_of
from pipeline.sinks.put_answers import PutAnswer, answer_of, code_of, failed, message_of
from pipeline.sinks.put_back_off import PutBackOff
from pipeline.sinks.put_queue import REQUEST_BYTES, REQUEST_ROWS, OrderedPutQueue, QueuedRow
from pipeline.sinks.refused import RefusedLetters, RefusedRow
from pipeline.stores.calls import SureCalls, Threads

log = logging.getLogger("sink.kinesis")

CALLS_AT_ONCE = 8
LETTERS_AT_ONCE = 8

ROW_BYTES = 1024 * 1024
"""The most bytes of data and key of one record, unless the stream's own limit differs (API reference, PutRecord)."""


class KinesisSink:
    """Sends rows to one stream. ``client`` makes a boto3 Kinesis client; ``table`` makes a table of a run's enriched
    records.

    ``letters`` keeps the rows that the stream cannot store; without it, such a row ends the task. ``limits``: how many
    of a shard's rows may be refused before the task ends.
    """

    wants_payloads = True

    def __init__(
        self,
        client: Callable[[], Any],
        stream: str,
        table: Callable[[Run], pa.Table],
        *,
        events: SinkEvents = NOBODY,
        outages: Outages | None = None,
        letters: RefusedLetters | None = None,
        limits: Limits = NO_LIMITS,
        give_up_after_s: float = float("inf"),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = f"kinesis:{stream}"
        self.letters = letters
        self.limits = limits
        self.letter_threads = Threads("sink-kinesis-letters")
        self.stream = stream
        self.table = table
        self.events = events
        self.outages = outages or Outages()
        self.give_up_after_s = give_up_after_s
        self.sleep = sleep
        self.row_bytes = ROW_BYTES
        self._client = client
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="sink-kinesis")
        self._writers: set[KinesisWriter] = set()

    async def check(self) -> None:
        """Check that the stream exists and can be read, and adopt its record size limit.

        :raises UserError: it does not exist, is not active, or cannot be reached.
        """
        try:
            answer = await self.call(lambda: self._client().describe_stream_summary(StreamName=self.stream))
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise UserError(f"sink {self.name}: {message_of(error)}") from None
            raise UserError(
                f"sink {self.name}: there is no such stream in this account and region. "
                "Create it, or check [[sink]] stream, AWS_REGION and AWS_ENDPOINT_URL"
            ) from None
        except BotoCoreError as error:
            raise UserError(f"sink {self.name}: {error}. Check AWS_REGION and AWS_ENDPOINT_URL") from None
        summary = answer["StreamDescriptionSummary"]
        if summary["StreamStatus"] not in {"ACTIVE", "UPDATING"}:
            raise UserError(f"sink {self.name}: the stream is {summary['StreamStatus']}. Start again when it is ACTIVE")
        self.row_bytes = 1024 * summary.get("MaxRecordSizeInKiB", ROW_BYTES // 1024)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> KinesisWriter:
        """Open a writer for a shard session. See :meth:`pipeline.sinks.Sink.open`."""
        writer = KinesisWriter(self, shard, on_durable, on_fatal)
        self._writers.add(writer)
        return writer

    def forget(self, writer: KinesisWriter) -> None:
        """The writer was abandoned: :meth:`close` need not abandon it."""
        self._writers.discard(writer)

    async def close(self) -> None:
        """Stop all writers. A call in progress ends by itself; its result is ignored."""
        for writer in list(self._writers):
            writer.abandon()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.letter_threads.close()

    async def call(self, work: Callable[[], Any]) -> Any:
        """Make a blocking call in one of the sink's own threads: a stalled stream does not block other parts."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def put(self, request: Sequence[QueuedRow]) -> PutAnswer:
        """Make one PutRecords call."""
        records = [{"Data": row.data, "PartitionKey": row.key} for row in request]
        try:
            answer = await self.call(lambda: self._client().put_records(StreamName=self.stream, Records=records))
        except (ClientError, BotoCoreError) as error:
            return failed(error, len(request))
        answered = answer_of(answer["Records"])
        pairs = zip(request, answered.accepted, strict=True)
        self.events.on_put(sum(row.size_bytes for row, accepted in pairs if accepted))
        return answered

    async def is_well(self) -> bool:
        """Whether the stream can be read and written: if so, a call that it finds invalid is invalid because of its
        rows.
        """
        try:
            await self.check()
        except UserError:
            return False
        return True


class KinesisWriter:
    """Sends one shard session's rows as soon as there are any, one call at a time, with endless retries."""

    def __init__(
        self, sink: KinesisSink, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._sink = sink
        self._shard = shard
        self._on_durable = on_durable
        self._runs: deque[tuple[Run, int]] = deque()
        self._put_queue = OrderedPutQueue()
        self._tally = Tally(sink.limits)
        self._payload_bytes = 0
        self._back_off = PutBackOff(
            sink.name, shard.shard_id, sink.outages, sink.give_up_after_s, sink.events, sink.sleep
        )
        letters = sink.outages.part("dead-letter", sink.give_up_after_s)
        self._surely = SureCalls(sink.letter_threads, letters, sleep=sink.sleep)
        self._suspects = 0
        """How many rows at the front of the queue include one that makes a call invalid."""
        self._told: Position | None = None
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sender = background.start(
            self._send, name=f"sink {sink.name} of {shard.shard_id}", on_failure=on_fatal, endless=True
        )

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return None: a stream cannot tell what it has, so everything after the checkpoint is sent again."""
        return None

    def write(self, run: Run) -> None:
        """Take a run; its rows are sent in order for each key."""
        self._runs.append((run, size_of(run)))
        self._idle.clear()
        self._work.set()

    @property
    def backlog_bytes(self) -> int:
        """Bytes of rows that are not accepted yet, with their payloads, and of runs that are not encoded yet."""
        return self._put_queue.bytes + self._payload_bytes + sum(size_bytes for _, size_bytes in self._runs)

    async def flush(self) -> None:
        """Return once every row is accepted or is a durable dead letter."""
        await self._idle.wait()

    def abandon(self) -> None:
        """Stop. A call in progress may still succeed; the shard's next owner sends its rows again in any case."""
        self._sender.cancel()
        self._back_off.forget()
        self._surely.give_up()
        self._runs.clear()
        self._put_queue = OrderedPutQueue()
        self._payload_bytes = 0
        self._sink.forget(self)

    async def _send(self) -> None:
        while True:
            await self._work.wait()
            await self._step()
            if not self._runs and not self._put_queue:
                self._work.clear()
                self._idle.set()

    async def _step(self) -> None:
        """Encode a run if the queue has room, and make one call if there is a row."""
        if self._runs and self._put_queue.bytes < REQUEST_BYTES:
            await self._load(self._runs[0][0])
            self._runs.popleft()
            self._tell()
        if request := self._put_queue.take(max(1, self._suspects // 2) if self._suspects else REQUEST_ROWS):
            answer = await self._sink.put(request)
            done = await self._without_faults(request, answer)
            self._put_queue.settle(request, done)
            self._payload_bytes -= sum(len(row.origin.data) for row, over in zip(request, done, strict=True) if over)
            self._tell()
            if all(done) or not answer.at_fault:
                await self._back_off(answer._replace(accepted=done))

    async def _without_faults(self, request: Sequence[QueuedRow], answer: PutAnswer) -> Sequence[bool]:
        """Return which rows are done: accepted, or durable dead letters.

        A call that is invalid as a whole is halved until its row is alone. A row alone is to blame only if the stream
        itself works.
        """
        faults = dict(answer.row_faults)
        self._suspects = len(request) if answer.at_fault else max(0, self._suspects - len(request))
        if answer.at_fault and len(request) > 1:
            log.info("%s: a call of %s is invalid: %s", self._sink.name, counted(len(request), "row"), answer.reason)
        elif answer.at_fault and await self._sink.is_well():
            self._suspects, faults[0] = 0, answer.quoting
        elif answer.at_fault:
            await self._back_off(answer._replace(refused=True))
        await self._write_letters([RefusedRow(request[place].origin, reason) for place, reason in faults.items()])
        return [accepted or place in faults for place, accepted in enumerate(answer.accepted)]

    async def _load(self, run: Run) -> None:
        """Put rows into the queue. A row that cannot be stored is a durable dead letter first."""
        sink = self._sink
        loads = await sink.call(partial(loads_of, run, sink.table, sink.row_bytes))
        refused = [RefusedRow(load.origin, load.row.reason) for load in loads if isinstance(load.row, Unwritable)]
        self._count(loads, len(refused))
        await self._write_letters(refused)
        for origin, row in loads:
            carried = None if isinstance(row, Unwritable) else row
            self._put_queue.put(origin.position, carried, origin=origin)
            self._payload_bytes += len(origin.data) if carried else 0

    def _count(self, loads: Sequence[RowLoad], refused: int) -> None:
        """Raise ``Fatal`` if a release makes rows that cannot be stored, before more of them become dead letters."""
        if not refused:
            self._tally.rows(sum(load.row is not None for load in loads))
            return
        for load in loads:
            if load.row is not None and not isinstance(load.row, Unwritable):
                self._tally.row(load.origin)
            elif load.row is not None:
                self._tally.dead(load.origin)
                if exceeded := self._tally.exceeded:
                    why = (
                        f"sink {self._sink.name}: {self._shard.shard_id}: the rows of {exceeded} cannot be carried, "
                        f"such as that of {load.origin.record_id(self._shard.stream)}: {load.row.told}. "
                        "Fix the release, or raise that limit"
                    )
                    self._sink.events.on_stop(why)
                    raise Fatal(why)

    async def _write_letters(self, refused: Sequence[RefusedRow]) -> None:
        """Return once each of them is a durable dead letter."""
        sink = self._sink
        if not refused:
            return
        if sink.letters is None:
            first = refused[0]
            raise UserError(
                f"sink {sink.name}: the row of {first.record.record_id(self._shard.stream)} cannot be carried: "
                f"{first.reason}"
            )
        put = sink.letters.put
        for start in range(0, len(refused), LETTERS_AT_ONCE):
            some = refused[start : start + LETTERS_AT_ONCE]
            await asyncio.gather(*(self._surely(partial(put, self._shard, each)) for each in some))
        sink.events.on_refused(len(refused))

    def _tell(self) -> None:
        durable = self._put_queue.durable
        if durable is not None and durable != self._told:
            self._told = durable
            self._on_durable(durable)

"""Rows to a downstream stream: at least once, in order per key.

Nobody can make this exactly-once: an answer can be lost, and Kinesis has no conditional put. So every row carries its
``record_id``, by which a reader drops what it has seen. Rows keep the partition key of their source record. Rows of one
key and one source shard first appear in sequence order; between keys no order is kept, as between shards there is none.
The price is that a stream with one key alone goes at one row per call.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from pipeline.errors import Fatal, PenstockError, UserError
from pipeline.factory import described
from pipeline.metrics import Metrics
from pipeline.record import Enriched, Position, Record, Run, Shard
from pipeline.sinks import OnDurable
from pipeline.sinks.json_rows import encode
from pipeline.sinks.outbox import REQUEST_BYTES, Outbox, Row
from pipeline.troubles import PATIENCE_S

log = logging.getLogger("sink.kinesis")

CALLS_AT_ONCE = 8
FIRST_DELAY_S, LAST_DELAY_S = 0.1, 10.0
ROW_BYTES = 1024 * 1024
"""Data and key of one record, unless the stream says otherwise (API reference, PutRecord)."""

REFUSALS = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidArgumentException",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSNotFoundException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)
"""Codes of Kinesis that the same call will meet again until a person mends something."""


class KinesisSink:
    """``client`` makes a boto3 client of Kinesis; ``table`` types the enriched records of a run as one row each."""

    def __init__(
        self,
        client: Callable[[], Any],
        stream: str,
        table: Callable[[Run], pa.Table],
        metrics: Metrics,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = f"kinesis:{stream}"
        self.stream = stream
        self.table = table
        self.metrics = metrics
        self.patience_s = patience_s
        self.sleep = sleep
        self.row_bytes = ROW_BYTES
        self._client = client
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="sink-kinesis")
        self._writers: set[KinesisWriter] = set()

    async def check(self) -> None:
        """The stream is there and can be asked; its own limit of a record's size is taken over."""
        try:
            answer = await self.call(lambda: self._client().describe_stream_summary(StreamName=self.stream))
        except ClientError as error:
            if _code(error) != "ResourceNotFoundException":
                raise UserError(f"sink {self.name}: {_message(error)}") from None
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
        writer = KinesisWriter(self, shard, on_durable, on_fatal)
        self._writers.add(writer)
        return writer

    def forget(self, writer: KinesisWriter) -> None:
        self._writers.discard(writer)

    async def close(self) -> None:
        """Give up what is not sent. A call under way ends in its own time, and nobody hears of it."""
        for writer in list(self._writers):
            writer.abandon()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, work: Callable[[], Any]) -> Any:
        """In a thread of the sink's own: a stalled stream takes no thread from anyone else."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def put(self, request: Sequence[Row]) -> Answer:
        """One call. Raises ``Fatal`` where nobody can make the same call go through."""
        records = [{"Data": row.data, "PartitionKey": row.key} for row in request]
        try:
            answer = await self.call(lambda: self._client().put_records(StreamName=self.stream, Records=records))
        except ClientError as error:
            return Answer([False] * len(request), _message(error), _code(error) in REFUSALS)
        except ParamValidationError as error:
            raise Fatal(f"sink {self.name}: {error}") from None
        except BotoCoreError as error:
            return Answer([False] * len(request), str(error))
        codes = [each.get("ErrorCode") for each in answer["Records"]]
        self.metrics.sink_put(
            self.name, sum(row.size_bytes for row, code in zip(request, codes, strict=True) if not code)
        )
        return Answer([not code for code in codes], ", ".join(sorted({code for code in codes if code})))


class Answer(NamedTuple):
    """Which rows of a call were accepted, and why the others were not."""

    accepted: Sequence[bool]
    reason: str
    refused: bool = False
    """Somebody must mend something before the same call goes through."""


class KinesisWriter:
    """One shard session's rows. Sends as soon as there is something to send, one call at a time, without end."""

    def __init__(
        self, sink: KinesisSink, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]
    ) -> None:
        self._sink = sink
        self._shard = shard
        self._on_durable = on_durable
        self._on_fatal = on_fatal
        self._runs: deque[tuple[Run, int]] = deque()
        self._outbox = Outbox()
        self._fruitless = 0
        self._refused = 0
        self._trouble = sink.metrics.troubles.part(sink.name, sink.patience_s)
        self._told: Position | None = None
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sender = asyncio.create_task(self._send(), name=f"{sink.name} {shard.shard_id}")

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """A stream cannot be asked what it holds: everything after the checkpoint is sent again."""
        return None

    def write(self, run: Run) -> None:
        self._runs.append((run, size_of(run)))
        self._idle.clear()
        self._work.set()

    @property
    def backlog_bytes(self) -> int:
        return self._outbox.bytes + sum(size_bytes for _, size_bytes in self._runs)

    async def flush(self) -> None:
        await self._idle.wait()

    def abandon(self) -> None:
        """A call under way may still arrive; its rows will be sent again by the next owner, as they would be anyway."""
        self._sender.cancel()
        self._trouble.worked()
        self._runs.clear()
        self._outbox = Outbox()
        self._sink.forget(self)

    async def _send(self) -> None:
        try:
            while True:
                await self._work.wait()
                await self._step()
                if not self._runs and not self._outbox:
                    self._work.clear()
                    self._idle.set()
        except PenstockError as error:
            self._on_fatal(error)
        except Exception as error:
            log.exception("%s failed", self._sink.name)
            self._on_fatal(Fatal(f"sink {self._sink.name}: {described(error)}"))

    async def _step(self) -> None:
        """Encode a run if the outbox has room, make one call if there is a row."""
        if self._runs and self._outbox.bytes < REQUEST_BYTES:
            await self._load(self._runs[0][0])
            self._runs.popleft()
            self._tell()
        if request := self._outbox.take():
            answer = await self._sink.put(request)
            self._outbox.settle(request, answer.accepted)
            self._tell()
            await self._back_off(answer)

    async def _load(self, run: Run) -> None:
        keys = [record.partition_key for record in run.records if isinstance(record.outcome, Enriched)]
        rows = await self._sink.call(partial(_encoded, self._sink.table, run)) if keys else []
        if len(rows) != len(keys):
            raise Fatal(f"sink {self._sink.name}: {len(keys)} enriched records made {len(rows)} rows")
        coming = iter(rows)
        for record in run.records:
            row = (record.partition_key, next(coming)) if isinstance(record.outcome, Enriched) else None
            if row:
                self._check_size(record, *row)
            self._outbox.put(record.position, row, whole=record.whole)

    def _check_size(self, record: Record, key: str, data: bytes) -> None:
        """A row that no call can deliver must not pass in silence, nor be left out: the stream would have a gap."""
        size_bytes = len(data) + len(key.encode())
        if size_bytes > self._sink.row_bytes:
            raise UserError(
                f"sink {self._sink.name}: the row of {record.record_id(self._shard.stream)} has {size_bytes:,} bytes, "
                f"and the stream takes {self._sink.row_bytes:,}. Carry less in [model] carry, raise the stream's "
                "maximum record size, or take this sink out"
            )

    def _tell(self) -> None:
        durable = self._outbox.durable
        if durable is not None and durable != self._told:
            self._told = durable
            self._on_durable(durable)

    async def _back_off(self, answer: Answer) -> None:
        """Longer while nothing is accepted at all; briefly where only some shards of the stream are full."""
        accepted = sum(answer.accepted)
        self._fruitless = 0 if accepted else self._fruitless + 1
        if accepted:
            self._trouble.worked()
        elif self._trouble.failed(answer.reason, refused=answer.refused):
            lasted_s = self._trouble.trouble().lasted_s
            raise Fatal(f"sink {self._sink.name}: {lasted_s:.0f} s without a row accepted: {answer.reason}")
        if accepted == len(answer.accepted):
            self._refused = 0
            return
        self._refused += 1
        self._sink.metrics.sink_retried(self._sink.name)
        wait_s = delay_s(self._fruitless, random.random())
        # Each long wait is worth a line; of many short ones the 1st, 2nd, 4th, 8th …
        if wait_s >= LAST_DELAY_S / 2 or self._refused.bit_count() == 1:
            log.warning(
                "%s: %s: %d of %d rows refused, again in %.1f s (call %d in a row): %s",
                self._sink.name,
                self._shard.shard_id,
                len(answer.accepted) - accepted,
                len(answer.accepted),
                wait_s,
                self._refused,
                answer.reason,
            )
        await self._sink.sleep(wait_s)


def delay_s(fruitless: int, dice: float) -> float:
    """How long to wait after ``fruitless`` calls in a row; ``dice`` in [0, 1) spreads those who wait alike."""
    return min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(fruitless, 16)) * (0.5 + dice / 2)


def size_of(run: Run) -> int:
    """About what a run's rows hold in memory before they are encoded: each its share of its batch."""
    shares: dict[int, int] = {}
    size_bytes = 0
    for record in run.records:
        if isinstance(record.outcome, Enriched):
            batch = record.outcome.table
            if id(batch) not in shares:
                shares[id(batch)] = batch.nbytes // max(1, batch.num_rows)
            size_bytes += shares[id(batch)]
    return size_bytes


def _encoded(table: Callable[[Run], pa.Table], run: Run) -> list[bytes]:
    return encode(table(run))


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _message(error: ClientError) -> str:
    return f"{_code(error)}: {error.response.get('Error', {}).get('Message', '')}"

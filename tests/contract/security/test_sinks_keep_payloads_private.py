"""Payloads that a sink cannot carry are only in dead letters, as in ``test_payloads_stay_private.py``."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from pipeline.dead_letters.limit import Limits
from pipeline.metrics import Metrics
from pipeline.record import Enriched, Record, Run, Shard
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema
from tests.support.canary import CANARY, SHARD_ID, healths, shown

DEADLINE_S = 90


class Quoting:
    """A Kinesis that finds every row invalid and quotes its values; ``ill``: nor can the stream be described."""

    def __init__(self, error: Exception | None, ill: bool) -> None:
        self._error, self._ill = error, ill

    def put_records(self, **asked: Any) -> dict[str, Any]:
        if self._error:
            raise self._error
        each = {"ErrorCode": "ValidationException", "ErrorMessage": f"Value '{CANARY}' failed to satisfy constraint"}
        return {"Records": [each] * len(asked["Records"])}

    def describe_stream_summary(self, **asked: Any) -> dict[str, Any]:
        if self._ill:
            raise EndpointConnectionError(endpoint_url="here")
        return {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE"}}


def unhappy(run: Run) -> pa.Table:
    raise pa.ArrowInvalid(f"Could not convert '{CANARY}' with type str")


def far_away(run: Run) -> pa.Table:
    return pa.table({"at": pa.array([2**62] * len(run.records), pa.timestamp("s"))})


def numbers(run: Run) -> pa.Table:
    return pa.table({"n": [1] * len(run.records)})


INVALID = ClientError({"Error": {"Code": "ValidationException", "Message": f"Value '{CANARY}' …"}}, "PutRecords")
NO_SUCH = ParamValidationError(report=f"Invalid type for parameter Records[0].Data, value: {CANARY}")
ROWS = 10


@pytest.mark.parametrize(
    ("table", "answer", "ill"),
    [
        (unhappy, None, False),
        (far_away, None, False),
        (numbers, None, False),
        (numbers, INVALID, False),
        (numbers, INVALID, True),
        (numbers, NO_SUCH, False),
        (numbers, NO_SUCH, True),
    ],
)
def test_rows_that_a_sink_cannot_carry_are_reported_without_their_content(
    caplog: pytest.LogCaptureFixture, table: Callable[[Run], pa.Table], answer: Exception | None, ill: bool
) -> None:
    """The last line of a task that ends at the limit, every page, and the log do not quote payloads; only the letters
    do."""
    store, told = MemoryStore(), list[str]()
    schema = TableSchema(pa.schema([("n", pa.int64())]), "events", "model@1")

    async def main() -> None:
        metrics = Metrics()
        ended: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        sink = KinesisSink(
            lambda: Quoting(answer, ill),
            "enriched",
            table,
            events=metrics.sinks.of("kinesis:enriched"),
            outages=metrics.outages,
            letters=RefusedLetters(store, schema, "kinesis:enriched"),
            limits=Limits(5, 1.0, 1_000, "failures"),
            give_up_after_s=0.3,
            sleep=lambda wait_s: asyncio.sleep(0.02),
        )
        writer = sink.open(Shard("events", 1, SHARD_ID), lambda position: None, ended.set_result)
        records = [Record(SHARD_ID, b"", f"{CANARY}{n}", str(n), 0, 1) for n in range(ROWS)]
        batch = pa.RecordBatch.from_pydict({"n": [1] * ROWS})
        for place, record in enumerate(records):
            record.outcome = Enriched(batch, place)
        writer.write(Run(Shard("events", 1, SHARD_ID), records, [CANARY.encode()] * ROWS))
        while not ended.done() and len(store.objects) < ROWS:
            told.append(await healths(metrics))
            await asyncio.sleep(0.02)
        told.append(str(await ended) if ended.done() else "")
        told.append(f"{await healths(metrics)} {metrics.dead_letters.stop_reason}")
        writer.abandon()
        await sink.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    letters = b"".join(body for body, _ in store.objects.values())
    assert table is not numbers or ill or CANARY.encode() in letters or base64.b64encode(CANARY.encode()) in letters
    assert CANARY not in "".join(told) + shown(caplog)
    assert str(2**62) not in "".join(told) + shown(caplog)
    if table is not numbers:
        assert "cannot be carried" in "".join(told)

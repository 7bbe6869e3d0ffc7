"""Payloads are only in dead letters: not in a log, a metric, an answer of the health page, or an error."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from consumer.aws.clients import Aws
from consumer.build import Outside, Parts
from consumer.config.load import parse
from consumer.config.settings import HealthSettings
from consumer.http.health import Health
from consumer.kcl.bridge_server import BridgeServer, Decoder
from consumer.kcl.door import token_path
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Wire
from consumer.logs import JsonLines
from consumer.testing import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Enriched, Record, Run, Shard
from pipeline.replicas.host import ModelHost
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stage import Stage
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema
from pipeline.testing.model_settings import host_settings
from tests.support.hosts import ROOT
from tests.support.payload_markers import DEEDS

CANARY = "canary5ca1ab1e"
DEADLINE_S = 90
SHARD_ID = "shardId-000000000000"
WELL = 5
FAILING = [
    *(json.dumps({"do": deed, "canary": CANARY, "i": 1}).encode() for deed in DEEDS if deed != "well"),
    *(json.dumps({"do": deed, "canary": CANARY}).encode() for deed in ("decode raises", "cost raises", "cost is text")),
    json.dumps({"do": "well", "canary": CANARY, "i": CANARY}).encode(),
    f'{{"{CANARY}'.encode(),
    f'["{CANARY}"]'.encode(),
    f'{{"canary": "{CANARY}\xff'.encode("latin-1"),
]
"""Every kind of failure."""


def shown(caplog: pytest.LogCaptureFixture) -> str:
    """Everything logged at INFO or above, as it is written, including tracebacks and extra fields."""
    return "\n".join(JsonLines().format(record) for record in caplog.records if record.levelno >= logging.INFO)


def consumed(
    folder: Path, body: Callable[[FakeKcl, Metrics], Coroutine[Any, Any, None]], give_up_after_s: float = 60.0
) -> Metrics:
    """Run ``body`` with a session, a real model host, and real sinks in ``folder``."""

    async def main() -> Metrics:
        metrics, leaving, decoder, kcl = Metrics(), asyncio.Event(), Decoder(), FakeKcl()
        settings = parse(
            {
                "stream": {"name": "events", "application": "app"},
                "model": {"factory": "tests.support.payload_markers:Telling", "version": "1"},
                "sink": [{"type": "parquet", "url": str(folder / "table"), "flush_interval_s": 0.1}],
                "dead_letter": {"url": str(folder / "dead")},
            },
            {},
        )
        host = ModelHost(
            host_settings(
                factory=settings.model.factory,
                version="1",
                replicas=1,
                threads=1,
                timeout_s=1.5,
                retries=0,
                passthrough={"i": "int64"},
                not_finite="reject",
                search_path=(str(ROOT),),
                give_up_after_s=give_up_after_s,
            ),
            on_event=metrics.model.note,
            outages=metrics.outages,
        )
        spec = await host.start()
        sinks = Parts(settings, Outside.of(Aws()), metrics).sinks(spec.row_schema)
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        stage = Stage(
            Unguarded(host),
            batcher,
            sinks,
            Bounds(1000, 10**9),
            metrics,
            limits=Limits(1_000, 0.5, 1_000, "failures"),
            letters=DeadLetterLog("dead"),
        )
        session = ShardSession(kcl, stage, lambda name: Shard("events", 1, name), leaving, metrics.records, decoder)
        staging, running = asyncio.create_task(stage.run()), asyncio.create_task(session.run())
        working = asyncio.create_task(body(kcl, metrics))
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.wait({working, staging}, return_when=asyncio.FIRST_COMPLETED)
                if staging.done():
                    await staging
                await working
        finally:
            for task in (staging, running, working):
                task.cancel()
            await asyncio.gather(staging, running, working, return_exceptions=True)
            await asyncio.gather(*(sink.close() for sink in sinks), host.stop())
            decoder.close()
        return metrics

    return asyncio.run(main())


class Unguarded:
    """A model host without a crash journal."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    async def recall(self, shard: Shard, first: object) -> None:
        return

    def trust(self, shard: Shard) -> None:
        return


async def healths(metrics: Metrics) -> str:
    health = Health(HealthSettings(port=0), metrics, lambda: metrics.dead_letters.stop_reason, lambda: None)
    return "".join(health.answer("GET", path)[2].decode() for path in ("/healthz", "/readyz", "/metrics", "/stats"))


def test_payloads_that_fail_are_in_the_dead_letters_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    well = [json.dumps({"do": "well", "canary": CANARY}).encode()] * WELL
    sent = [*well, *FAILING, *well]
    told: list[str] = []

    async def body(kcl: FakeKcl, metrics: Metrics) -> None:
        await kcl.initialize(SHARD_ID)
        await kcl.process([row(number, payload, key=CANARY) for number, payload in enumerate(sent, 1)])
        while metrics.snapshot()["durable"] < len(sent):
            await kcl.process([])
            told.append(await healths(metrics))
            await asyncio.sleep(0.05)
        await kcl.say("shutdownRequested")

    with caplog.at_level(logging.INFO):
        metrics = consumed(tmp_path, body)
    letters = [
        json.loads(line) for file in (tmp_path / "dead").rglob("*.jsonl") for line in file.read_text().splitlines()
    ]
    assert sorted(base64.b64decode(letter["payload_base64"]) for letter in letters) == sorted(FAILING)
    reasons = "".join(letter["reason"] + letter["traceback"] for letter in letters)
    assert reasons.count(CANARY) >= 10
    assert metrics.snapshot()["enriched"] == 2 * WELL
    assert "starting another" in shown(caplog) and "Segmentation fault" in shown(caplog)
    assert "dead letter: exception (ValueError at payload_markers.py:" in shown(caplog)
    assert CANARY not in shown(caplog)
    assert CANARY not in "".join(told) + metrics.exposition().decode()


def test_a_device_that_is_lost_for_good_ends_the_task_without_the_payload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(kcl: FakeKcl, metrics: Metrics) -> None:
        await kcl.initialize(SHARD_ID)
        await kcl.process([row(1, json.dumps({"do": "lose device", "canary": CANARY}).encode())])
        while True:
            await kcl.process([])
            assert CANARY not in await healths(metrics)
            await asyncio.sleep(0.05)

    with caplog.at_level(logging.INFO), pytest.raises(Fatal, match="device-side assert triggered") as ended:
        consumed(tmp_path, body, give_up_after_s=0.2)
    assert CANARY not in str(ended.value)
    assert CANARY not in shown(caplog)


def records(**changes: Any) -> bytes:
    made = row(1, CANARY.encode(), key=CANARY) | changes
    return orjson.dumps({"action": "processRecords", "records": [made], "millisBehindLatest": 0}) + b"\n"


@pytest.mark.parametrize(
    "broken",
    [
        records(data=f"{CANARY}!"),
        records(data=[CANARY]),
        records(data={CANARY: CANARY}),
        records(partitionKey=[CANARY]),
        records(subSequenceNumber=CANARY),
        records(approximateArrivalTimestamp=CANARY),
        records(sequenceNumber=[CANARY]),
        records().replace(b"}", b"", 1),
        records()[:-3] + b"\n",
        CANARY.encode() + b"\n",
        f'["{CANARY}"]\n'.encode(),
        f'"{CANARY}"\n'.encode(),
    ],
)
def test_a_broken_message_ends_the_task_without_its_payload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    hello = {"action": "initialize", "shardId": SHARD_ID, "sequenceNumber": "LATEST"}

    async def main() -> str:
        leaving, metrics, decoder = asyncio.Event(), Metrics(), Decoder()
        stage = Stage(
            Unguarded(None),  # type: ignore[arg-type]  # nothing comes so far
            Batcher(max_records=8, max_cost=0, linger_s=0.001),
            [],
            Bounds(10, 10**9),
            metrics,
        )

        def session(wire: Wire) -> ShardSession:
            return ShardSession(wire, stage, lambda name: Shard("events", 1, name), leaving, metrics.records, decoder)

        bridges = BridgeServer(session)
        await bridges.listen(tmp_path / "s")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        try:
            writer.write(token_path(tmp_path / "s").read_bytes() + orjson.dumps(hello) + b"\n")
            await reader.readline()
            writer.write(broken)
            return str(await bridges.failure)
        finally:
            writer.close()
            await writer.wait_closed()
            await bridges.close()
            decoder.close()

    with caplog.at_level(logging.INFO):
        reason = asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    assert reason
    assert CANARY not in reason + shown(caplog)


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

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
import pytest

from consumer.aws.clients import Aws
from consumer.build import Outside, Parts
from consumer.config.load import parse
from consumer.config.settings import Settings
from consumer.kcl.bridge_server import BridgeServer, Decoder
from consumer.kcl.session import ShardSession
from consumer.kcl.socket_auth import token_path
from consumer.kcl.wire import Wire
from consumer.testing import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Shard
from pipeline.replicas.host import ModelHost
from pipeline.stage import Stage
from pipeline.testing.model_settings import host_settings
from tests.support.canary import CANARY, SHARD_ID, healths, shown
from tests.support.hosts import ROOT
from tests.support.payload_markers import DEEDS

DEADLINE_S = 90
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


def settings_in(folder: Path) -> Settings:
    return parse(
        {
            "stream": {"name": "events", "application": "app"},
            "model": {"factory": "tests.support.payload_markers:Telling", "version": "1"},
            "sink": [{"type": "parquet", "url": str(folder / "table"), "flush_interval_s": 0.1}],
            "dead_letter": {"url": str(folder / "dead")},
        },
        {},
    )


def host_of(settings: Settings, metrics: Metrics, give_up_after_s: float) -> ModelHost:
    given = host_settings(
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
    )
    return ModelHost(given, on_event=metrics.model.note, outages=metrics.outages)


def consumed(
    folder: Path, body: Callable[[FakeKcl, Metrics], Coroutine[Any, Any, None]], give_up_after_s: float = 60.0
) -> Metrics:
    """Run ``body`` with a session, a real model host, and real sinks in ``folder``."""

    async def main() -> Metrics:
        metrics, leaving, decoder, kcl = Metrics(), asyncio.Event(), Decoder(), FakeKcl()
        settings = settings_in(folder)
        host = host_of(settings, metrics, give_up_after_s)
        spec = await host.start()
        sinks = Parts(settings, Outside.of(Aws()), metrics).sinks(spec.row_schema)
        stage = Stage(
            Unguarded(host),
            Batcher(max_records=8, max_cost=0, linger_s=0.001),
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
            await asyncio.sleep(0.2)
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

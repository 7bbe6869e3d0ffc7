"""Which request gets which replica, on replicas without processes."""

import asyncio
from functools import partial

from pipeline.errors import Fatal
from pipeline.outages import Outages
from pipeline.replicas.pool import Pool
from pipeline.testing import FakeReplica, SimulatedLoop
from pipeline.testing.model_settings import assignment

WORK_S = 10.0
PAYLOADS = [b'{"text": "a"}']


def pool() -> Pool:
    loop = asyncio.get_running_loop()
    return Pool(
        [assignment("measure", "tests.support.models:Measured")],
        timeout_s=60,
        start_timeout_s=60,
        give_up_after_s=60,
        outages=Outages(loop.time),
        failed=loop.create_future(),
        on_event=lambda event: None,
        link=partial(FakeReplica, seconds=lambda payloads: WORK_S),
    )


def test_a_cancelled_request_frees_its_place_when_it_is_answered() -> None:
    """Shards that are lost during a measurement leave their requests behind; the next shard must not wait for ever."""

    async def main() -> None:
        calls = pool()
        await calls.start()
        lost = [asyncio.create_task(calls.call("measure", PAYLOADS)) for _ in range(calls.slots)]
        await asyncio.sleep(1)
        waiting = asyncio.create_task(calls.call("measure", PAYLOADS))
        await asyncio.sleep(1)
        for call in lost:
            call.cancel()
        async with asyncio.timeout(10 * WORK_S):
            frame = await waiting
        assert frame.op == "costs"
        await calls.stop()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


def test_a_stopped_pool_says_so() -> None:
    async def main() -> str:
        calls = pool()
        await calls.start()
        await calls.stop()
        try:
            await calls.call("measure", PAYLOADS)
        except Fatal as error:
            return str(error)
        return ""

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        assert "stopped" in runner.run(main())

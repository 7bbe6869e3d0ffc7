"""A lost device: whether a record is to blame."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.errors import Fatal
from pipeline.outages import Outages
from pipeline.replicas.host import ModelHost
from tests.support.hosts import DEADLINE_S, batch, death, expect_all_but, hosted, judged, settings, until


def test_a_record_that_loses_the_device_by_itself_while_others_pass_is_dead() -> None:
    records, lone = batch(3), batch(1, {0: "lose device"})

    async def body(host: ModelHost) -> None:
        await host.settle(records)
        await host.settle(lone)

    hosted(body)
    expect_all_but(records, set())
    assert (death(lone[0]).kind, death(lone[0]).attempts) == ("died", 2)
    assert death(lone[0]).reason.startswith("replica lost its device: RuntimeError: CUDA error")


def test_a_record_without_evidence_against_it_is_not_given_up() -> None:
    """Without another record that has passed, the device may be to blame."""
    lone = batch(1, {0: "lose device"})
    with pytest.raises(Fatal, match=r"^replica lost its device: .* no record has passed since, for \d s"):
        judged(lone, give_up_after_s=0.2)
    assert lone[0].outcome is None


def test_a_device_that_is_lost_for_good_blames_no_record(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    records, later = batch(2), batch(2)

    async def body(host: ModelHost) -> None:
        await host.settle(records)
        lost.touch()
        await host.settle(later)

    with pytest.raises(Fatal, match="lost its device: CUDA error: device-side assert triggered; no record"):
        hosted(body, "Device", options={"lost": str(lost)}, retries=0, give_up_after_s=0.2)
    assert [record.outcome for record in later] == [None, None]


def test_a_device_that_comes_back_costs_no_record(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    records = batch(3)
    outages = Outages()

    async def main() -> None:
        host = ModelHost(settings("Device", options={"lost": str(lost)}, retries=0), outages=outages)
        try:
            await host.start()
            lost.touch()
            judging = asyncio.create_task(host.settle(records))
            await until(lambda: bool(outages.current()))
            assert "other records fail, too" in outages.current()[0].reason
            lost.unlink()
            await judging
            assert not outages.current()
        finally:
            await host.stop()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    expect_all_but(records, set())

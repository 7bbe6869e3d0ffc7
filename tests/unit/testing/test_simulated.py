"""Simulated time: waiting costs nothing, processes freeze and die like real ones, and every run is the same."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from pipeline.testing import Process, SimulatedLoop, Simulation, Stuck

T = TypeVar("T")


def simulated(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main())


def test_an_hour_is_over_at_once() -> None:
    async def main() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time() - began

    began = time.perf_counter()
    assert simulated(main) == pytest.approx(3660)
    assert time.perf_counter() - began < 1


def test_blocking_calls_are_made_and_their_errors_told() -> None:
    async def main() -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 7)

    assert simulated(main) == 7


def test_a_task_that_waits_for_ever_is_stuck() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="every task waits"):
        simulated(main)


async def ticks(process: Process, told: list[float]) -> None:
    """Note simulated time, once a second."""
    try:
        while True:
            await asyncio.sleep(1)
            told.append(process.simulation.now)
    finally:
        told.append(-1)


def test_processes_share_time_and_not_their_clocks() -> None:
    simulation, clocks = Simulation(), list[float]()

    async def main(process: Process) -> None:
        await asyncio.sleep(2)
        clocks.append(asyncio.get_running_loop().time())

    simulation.start(main)
    simulation.start(main, monotonic=5000)
    simulation.run(3)
    assert clocks == pytest.approx([2, 5002])
    simulation.close()


def test_a_frozen_process_does_nothing_and_then_everything_that_was_due() -> None:
    simulation, told = Simulation(), list[float]()
    process = simulation.start(lambda process: ticks(process, told))
    simulation.at(1.5, lambda: process.freeze(3))
    simulation.run(6.1)
    assert told == pytest.approx([1, 4.5, 5.5])
    simulation.close()


def test_a_killed_process_does_not_even_finally() -> None:
    simulation, told = Simulation(), list[float]()
    process = simulation.start(lambda process: ticks(process, told))
    simulation.at(1.5, process.kill)
    simulation.run(10)
    assert told == [1]
    assert not process.ended
    simulation.close()
    assert told == [1, -1]


def test_a_process_may_be_killed_some_rounds_into_what_it_does() -> None:
    simulation, rounds = Simulation(), list[int]()

    async def main(process: Process) -> None:
        for number in range(10):
            rounds.append(number)
            await asyncio.sleep(0)

    simulation.start(main).kill(after_rounds=4)
    simulation.run(1)
    assert 0 < len(rounds) < 6
    simulation.close()


def test_others_go_on_in_the_middle_of_a_blocking_call_which_ends_with_its_process() -> None:
    simulation, told = Simulation(), list[str]()

    def call(process: Process) -> None:
        told.append("begun")
        process.pause(5)
        told.append("ended")

    async def main(process: Process) -> None:
        await asyncio.to_thread(call, process)

    async def other(process: Process) -> None:
        await asyncio.sleep(2)
        told.append("other")

    victim = simulation.start(main)
    survivor = simulation.start(main)
    simulation.start(other)
    simulation.at(3, victim.kill)
    simulation.run(20)
    assert told == ["begun", "begun", "other", "ended"]
    assert survivor.ended
    simulation.close()


def test_a_call_continues_when_nothing_waits_for_it_any_more() -> None:
    simulation, told = Simulation(lambda: 1.0), list[str]()

    async def main(process: Process) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.to_thread(told.append, "made")
        await asyncio.sleep(5)

    simulation.start(main)
    simulation.run(10)
    assert told == ["made"]
    assert simulation.errors == []
    simulation.close()


def test_a_process_that_spins_is_found_out() -> None:
    async def main(process: Process) -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    simulation = Simulation()
    simulation.start(main)
    with pytest.raises(Stuck, match="loops without end"):
        simulation.run(1)
    simulation.close()

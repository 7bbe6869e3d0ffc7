"""The start and the end of replicas."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import time
import warnings
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.errors import Fatal, ModelError
from pipeline.outages import Outages
from pipeline.replicas import pool
from pipeline.replicas.host import HostSettings, ModelHost
from pipeline.replicas.process import ReplicaProcess
from pipeline.testing import FakeReplica
from pipeline.testing.model_settings import assignment, host_settings
from tests.support.hosts import (
    DEADLINE_S,
    LEAN,
    ROOT,
    batch,
    expect_all_but,
    gone,
    hosted,
    judged,
    record,
    settings,
    until,
    value,
)

REAL, FAKE = ReplicaProcess, FakeReplica
"""A replica in a process, and one that runs the same code in this process. They report an unusable model alike."""


def started(given: HostSettings, link: type[ReplicaProcess] = REAL) -> None:
    async def main() -> None:
        host = ModelHost(given, link=link)
        try:
            await host.start()
        finally:
            await host.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("model", "text", "link"),
    [
        ("Missing", "module tests.support.models has no Missing", REAL),
        ("Toy.missing", "module tests.support.models has no Toy.missing", FAKE),
        ("ANSWERS", "it is of type dict, not a class", FAKE),
        ("predict_items", "it is a function that needs items, but it is called without arguments", FAKE),
        ("makes_nothing", "it returned NoneType, not a model", FAKE),
        ("makes_a_class", "it returned the class Toy, not a model", FAKE),
        ("makes_later", "it returned coroutine, not a model", FAKE),
        (
            "WantsMore",
            "its predict needs threshold, but it is called with items only, and with records if it has a parameter",
            FAKE,
        ),
        ("WantsArguments", "WantsArguments() needs path, but is called without arguments; load(context) gets", FAKE),
        ("NoPredict", "it has no predict(items)", FAKE),
        ("NoSchema", "it needs an output_schema", FAKE),
        ("NoWeights", "weights.safetensors: cannot be read", FAKE),
        ("FailsToLoad", "load failed: RuntimeError: no such device (models.py:200 in load)", REAL),
        ("FailsItsExample", "its own example failed: not to my taste", REAL),
    ],
)
def test_a_model_that_cannot_be_used_is_reported_in_one_line(model: str, text: str, link: type[ReplicaProcess]) -> None:
    with pytest.raises(ModelError, match=re.escape(text)) as raised:
        started(settings(model), link)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "text", "link"),
    [
        (
            "tests.nowhere:Toy",
            "there is no module tests.nowhere; put it next to the configuration file, or install it",
            FAKE,
        ),
        ("tests.support.models:Missing", "module tests.support.models has no Missing", FAKE),
        ("json:dumps", "to make the model; name a class with output_schema and predict(items)", FAKE),
        ("broken:Model", "importing it failed: ZeroDivisionError: division by zero (broken.py:1 in <module>)", FAKE),
        ("lacking:Model", "there is no module nowhere_at_all", FAKE),
        ("leaving:Model", "importing it failed: SystemExit: 4 (leaving.py:2 in <module>)", REAL),
    ],
)
def test_a_factory_that_does_not_import_is_reported_in_one_line(
    factory: str, text: str, link: type[ReplicaProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # the fake one searches the folder in this process
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "lacking.py").write_text("import nowhere_at_all\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(4)\n")
    with pytest.raises(ModelError, match=re.escape(text) + "$"):
        started(host_settings(factory, search_path=(str(tmp_path),)), link)


def test_a_carried_field_may_not_clash_with_an_output_column() -> None:
    with pytest.raises(ModelError, match=r"model.passthrough.x: "):
        started(settings(passthrough={"x": "string"}), FAKE)


def test_a_replica_that_dies_while_it_loads_is_fatal() -> None:
    with pytest.raises(Fatal, match="replica exited with code 9 while it loaded"):
        started(settings("DiesLoading"))


def test_loading_has_a_deadline() -> None:
    with pytest.raises(ModelError, match=re.escape("within 0.5 s (model.start_timeout_s)")):
        started(settings("HangsLoading", start_timeout_s=0.5))


def test_a_model_that_loads_no_more_ends_the_host_with_its_reason(tmp_path: Path) -> None:
    records = batch(2, {0: "exit"})
    with pytest.raises(
        Fatal, match="replica exited with code 3, and its replacement does not start: the weights are gone"
    ):
        judged(records, "LoadsWhile", options={"mark": str(tmp_path / "mark")}, retries=0, give_up_after_s=0.3)
    assert [record.outcome for record in records] == [None, None]


def test_a_model_that_loads_again_in_time_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outage is shown while it lasts, and requests wait for the replica."""
    monkeypatch.setattr(pool, "SETTLED_S", 0.05)
    mark = tmp_path / "mark"
    records = batch(4, {1: "exit"})
    outages = Outages()

    async def main() -> None:
        host = ModelHost(
            settings("LoadsWhile", options={"mark": str(mark)}, retries=0, give_up_after_s=30), outages=outages
        )
        try:
            await host.start()
            judging = asyncio.create_task(host.settle(records))
            await until(lambda: bool(outages.current()))
            assert outages.current()[0].reason == "no replica starts: the weights are gone"
            assert (outages.current()[0].part, host.replicas_alive, judging.done()) == ("model", 0, False)
            mark.unlink()
            await judging
            await until(lambda: not outages.current())
        finally:
            await host.stop()

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))
    expect_all_but(records, {1})


def test_replicas_that_end_as_soon_as_they_start_end_the_host() -> None:
    async def body(host: ModelHost) -> None:
        assert isinstance(await host.failed, Fatal)
        await host.settle([record(0)])

    with pytest.raises(Fatal, match="replica exited with code 5, and its replacement does not start: replicas end"):
        hosted(body, "DiesIdle", give_up_after_s=0.3)


@pytest.mark.parametrize("action", ["hang", "stop python"])
def test_stopping_takes_less_than_a_second_for_any_model_and_then_no_more_is_judged(action: str) -> None:
    async def body(host: ModelHost) -> None:
        judging = asyncio.create_task(host.settle(batch(1, {0: action})))
        await asyncio.sleep(0)
        pids, began = host.pids, time.monotonic()
        await host.stop()
        assert time.monotonic() - began < 1
        assert all(gone(pid) for pid in pids)
        with pytest.raises(Fatal, match="was stopped"):
            await judging

    hosted(body)


async def two_children(before: set[psutil.Process]) -> set[psutil.Process]:
    """This process may have other children, such as the local AWS of other tests."""
    await until(lambda: len(children() - before) >= 2)
    return children() - before


def children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def test_a_start_that_is_given_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        host = ModelHost(settings("HangsLoading", replicas=2))
        before = children()
        starting = asyncio.create_task(host.start())
        started = await two_children(before)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await host.stop()
        assert all(gone(child.pid) for child in started)

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


def test_a_start_that_is_given_up_at_any_moment_closes_its_streams() -> None:
    """Cancel after this many turns of the event loop, before or after the process exists."""

    async def main(turns: int) -> None:
        link = ReplicaProcess(assignment("predict", "tests.support.models:HangsLoading", [str(ROOT)]))
        starting = asyncio.create_task(link.start(DEADLINE_S))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await link.close()

    gc.collect()
    gc.freeze()  # later collections look at new objects only
    try:
        assert {turns: unclosed(partial(main, turns)) for turns in range(8)} == {turns: [] for turns in range(8)}
    finally:
        gc.unfreeze()


def unclosed(main: Callable[[], Coroutine[Any, Any, None]]) -> list[str]:
    """Objects that only the garbage collector has closed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(main())
        gc.collect()
    return [str(each.message) for each in told if each.category is ResourceWarning]


def test_a_model_may_have_a_file_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the configuration's folder is the first one on Python's search path."""
    text = "import pyarrow as pa\nfrom helpers import N\nclass M:\n  output_schema = pa.schema([('n', pa.int64())])\n"
    text += "  def predict(self, items): return [{'n': N} for _ in items]\n"
    (tmp_path / "helpers.py").write_text("N = 5\n")
    for name in ("pipeline", "consumer", "random", "types", "socket"):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pipeline.py").write_text(text + "  def cost(self, item): return N\n")  # for the process that measures
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(LEAN), *sys.path])

    async def one(name: str) -> object:
        given = host_settings(f"{name}:M", search_path=(str(tmp_path),))
        host = ModelHost(given)
        try:
            await host.start()
            judged_one = record()
            await host.measure([judged_one])
            assert judged_one.cost == (5 if name == "pipeline" else 1)
            await host.settle([judged_one])
            return value(judged_one, "n")
        finally:
            await host.stop()

    for name in ("pipeline", "consumer", "random"):
        assert asyncio.run(asyncio.wait_for(one(name), DEADLINE_S)) == 5

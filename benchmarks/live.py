"""Whole tasks with the real KCL on a local AWS: beside the bare model, and beside stock ``amazon_kclpy``.

What is compared takes turns on the same cores; whoever's turn it is not is stopped. There is always a backlog.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.bare import Bare
from benchmarks.figures import Figure
from benchmarks.freezing import Tree
from benchmarks.load import payloads
from benchmarks.stock import USUAL, Calls
from benchmarks.stock.launcher import FAILOVER_MS, Stock
from consumer.local.process import LocalAWS
from tests.e2e.rig import Rig, Worker, wait_until

SHARDS = 8
UP_S = 240.0
LOOK_S = 0.1
SETTLING_S = 3.0
"""After a program goes on, before its turn is measured."""

BURN = """
import time
while True:
    end = time.perf_counter() + {busy}
    while time.perf_counter() < end:
        pass
    time.sleep({idle})
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A model as ``penstock tune`` would have it on two cores, the bare loop's best batch, and how long a turn is."""

    model: str
    factory: str
    replicas: int
    threads: int
    max_records: int
    bare_records: int
    backlog: int
    warm: int
    turn_s: float


MINILM = Case("minilm", "examples.minilm:MiniLM", 2, 1, 64, 32, 60_000, 1_500, 10.0)
REFERENCE = Case("reference", "examples.reference_1gb:Reference", 1, 2, 8, 8, 60_000, 200, 20.0)


class Live:
    """A stream with a backlog, and a worker of ours on it."""

    def __init__(self, aws: LocalAWS, case: Case, folder: Path) -> None:
        self.aws, self.case, self.folder = aws, case, folder
        self.rig = Rig(aws, f"bench-{case.model}", folder)
        self.rig.create(SHARDS)
        self.rig.put(payloads(case.model, case.backlog))

    def start(self) -> Worker:
        worker = self.rig.start(self._config())
        wait_until(lambda: worker.stats()["enriched"] >= self.case.warm, UP_S, "the worker is warm")
        return worker

    def _config(self) -> Path:
        path = self.folder / "bench.toml"
        path.write_text(
            f'[stream]\nname = "{self.rig.name}"\napplication = "{self.rig.name}"\n'
            f'[model]\nfactory = "{self.case.factory}"\nversion = "bench"\n'
            f"replicas = {self.case.replicas}\nthreads = {self.case.threads}\n"
            f"[batch]\nmax_records = {self.case.max_records}\n"
            f"[kcl]\nfailover_ms = {FAILOVER_MS}\n"
            f'[health]\nport = 0\n[log]\nformat = "json"\n[dead_letter]\nurl = "{self.folder / "dead"}"\n'
            f'[[sink]]\ntype = "parquet"\nurl = "{self.folder / "table"}"\nflush_interval_s = 20\n'
        )
        return path


@contextlib.contextmanager
def live(case: Case) -> Iterator[Live]:
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder, LocalAWS(limits=False) as aws:
        made = Live(aws, case, Path(folder))
        try:
            yield made
        finally:
            made.rig.clean()


def rate(
    count: Callable[[], int],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Records per second, from one change of the count to another: batches are not cut in two."""
    changes: list[tuple[float, int]] = []
    last = count()
    end = clock() + seconds
    while clock() < end or len(changes) < 2:
        now, counted = clock(), count()
        if counted != last:
            changes.append((now, counted))
            last = counted
        if now > end + UP_S:
            raise RuntimeError("nothing is predicted any more")
        sleep(LOOK_S)
    (from_s, before), (until_s, after) = changes[0], changes[-1]
    return (after - before) / (until_s - from_s)


def efficiency(case: Case, runs: int) -> Figure:
    """A saturated task ÷ the bare loop, which runs beside as much load as the local AWS was meanwhile."""
    ratios, share = [], 0.0
    best = Bare(case.model, case.bare_records, replicas=case.replicas, threads=case.threads)
    with best as bare, live(case) as made:
        worker = made.start()
        tree, cloud = Tree(psutil.Process(worker.process.pid)), Tree(_local_aws())
        for _ in range(runs):
            time.sleep(SETTLING_S)
            began, burnt = time.monotonic(), cloud.cpu_s()
            ours = rate(lambda: int(worker.stats()["enriched"]), case.turn_s)
            share = (cloud.cpu_s() - burnt) / (time.monotonic() - began)
            with tree.stopped(), burning(share):
                ratios.append(ours / bare.rate(case.turn_s))
        usual = worker.stats()["usual_batch"]
    text = (
        f"saturated task / bare loop in batches of {case.bare_records}, {case.replicas} x {case.threads} threads; "
        f"batches of {usual} were found to be quickest; the local AWS took {share:.0%} of a core"
    )
    return Figure(f"efficiency_{case.model}", ratios, bar=0.95 if case is REFERENCE else 0.9, text=text)


def against_stock(runs: int) -> Figure:
    """Records per second, ours ÷ stock's."""
    (ratios,) = beside_stock(MINILM, runs, [USUAL[MINILM.model]])
    return Figure("vs_stock", ratios, "x", bar=2.0, text=f"records/s / stock amazon_kclpy, {SHARDS} shards, MiniLM")


def beside_stock(case: Case, runs: int, ways: Sequence[Calls]) -> list[list[float]]:
    """The ratios for each way in which stock may form its calls; all of them and ours take turns."""
    ratios: list[list[float]] = [[] for _ in ways]
    with live(case) as made, contextlib.ExitStack() as stack:
        worker = made.start()
        trees = [Tree(psutil.Process(worker.process.pid))]
        stack.enter_context(trees[0].stopped())
        stocks: list[Stock] = []
        for calls in ways:
            folder = made.folder / f"stock-{len(stocks)}"
            stock = stack.enter_context(Stock(made.rig.name, case.model, calls, folder, made.aws.env))
            _all_shards(stock, calls)
            stack.enter_context(stock.tree.stopped())
            stocks.append(stock)
            trees.append(stock.tree)
            _renew(trees)
        for _ in range(runs):
            with trees[0].going_on():
                time.sleep(SETTLING_S)
                ours = rate(lambda: int(worker.stats()["enriched"]), case.turn_s)
            for stock, found in zip(stocks, ratios, strict=True):
                with stock.tree.going_on():
                    time.sleep(SETTLING_S)
                    found.append(ours / rate(stock.predicted, case.turn_s))
    return ratios


def memory(runs: int) -> Figure:
    """PSS of everything that a task is, stock's ÷ ours. One after the other: both at once would share pages."""
    with live(REFERENCE) as made:
        worker = made.start()
        ours = [Tree(psutil.Process(worker.process.pid)).pss_mib() for _ in range(runs)]
        worker.leave(UP_S)
        calls = USUAL[REFERENCE.model]
        with Stock(made.rig.name, REFERENCE.model, calls, made.folder / "stock", made.aws.env) as stock:
            _all_shards(stock, calls)
            theirs = [stock.tree.pss_mib() for _ in range(runs)]
    text = f"{min(theirs):,.0f} MiB / {max(ours):,.0f} MiB, {SHARDS} shards, 1 GB reference"
    return Figure("memory_vs_stock", [a / b for a, b in zip(theirs, ours, strict=True)], "x", bar=5.0, text=text)


@contextlib.contextmanager
def burning(share: float) -> Iterator[None]:
    """A process that takes such a share of a core."""
    program = BURN.format(busy=share / 100, idle=max(0.0, 1 - share) / 100)
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _all_shards(stock: Stock, calls: Calls) -> None:
    def up() -> bool:
        stock.check()
        counts = stock.counts()
        return len(counts) >= SHARDS and min(counts) >= 2 * calls.records

    wait_until(up, UP_S, "stock has loaded a model for every shard, and has predicted with each")


def _renew(trees: Sequence[Tree]) -> None:
    """Have them renew their leases before these expire."""
    for tree in trees:
        with tree.going_on():
            time.sleep(SETTLING_S)


def _local_aws() -> psutil.Process:
    """The child of ours that serves it."""
    children = psutil.Process().children()
    return next(child for child in children if any("consumer.local" in word for word in child.cmdline()))


def measure(runs: int = 5) -> dict[str, Figure]:
    figures = [against_stock(runs), efficiency(MINILM, runs), memory(min(runs, 3)), efficiency(REFERENCE, runs)]
    return {figure.key: figure for figure in figures}


if __name__ == "__main__":
    from benchmarks.alone import run

    run(measure)

"""Whole tasks with the real KCL on a local AWS, compared with the bare model and with stock ``amazon_kclpy``.

The programs take turns on the same cores; those that wait are stopped. There is always a backlog.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import psutil

from benchmarks import stock
from benchmarks.bare import Bare
from benchmarks.figures import Figure
from benchmarks.freezing import Tree
from benchmarks.load import payloads
from benchmarks.stock import Way
from benchmarks.stock.launcher import FAILOVER_MS, Stock
from consumer.config import profile
from consumer.config.load import load
from consumer.local.process import LocalAWS
from tests.e2e.rig import Rig, Worker, wait_until

SHARDS = 8
UP_S = 240.0
LOOK_S = 0.1
SETTLING_S = 3.0
"""Seconds after a program continues, before its turn is measured."""

MEMORY_LOOKS = 3
AWS = "the local AWS"

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
    """A model with the replicas, threads and batch that ``penstock tune`` finds best for it on two cores
    (``benchmarks/tuned.py``). The bare loop uses them, too. ``turn_s``: length of a turn.
    """

    model: str
    factory: str
    replicas: int
    threads: int
    max_records: int
    batch: int
    backlog: int
    warm: int
    turn_s: float


MINILM = Case("minilm", "examples.minilm:MiniLM", 2, 1, 64, 32, 60_000, 1_500, 10.0)
REFERENCE = Case("reference", "examples.reference_1gb:Reference", 2, 1, 12, 12, 60_000, 120, 20.0)
ONE_REPLICA = Case("reference", "examples.reference_1gb:Reference", 1, 2, 8, 8, 20_000, 60, 20.0)
"""An untuned task: one copy of the model on all cores."""

Cores = Mapping[str, float]
"""Shares of a core, by what used them."""


class Spent:
    """CPU time of a task, its parts, and the local AWS between two looks."""

    def __init__(self, tree: Tree, cloud: Tree) -> None:
        self._tree, self._cloud = tree, cloud
        self._began_s, self._before = time.monotonic(), self._looked()

    def _looked(self) -> dict[str, float]:
        return {**self._tree.cpu_s_by_kind(), AWS: self._cloud.cpu_s()}

    def cores(self) -> Cores:
        """Return the shares of a core since the first look."""
        spent_s = time.monotonic() - self._began_s
        return {kind: (now - self._before.get(kind, 0.0)) / spent_s for kind, now in self._looked().items()}


def told(cores: Sequence[Cores]) -> str:
    """Return one line with the average share of a core that each part used."""
    shares = {kind: mean(each.get(kind, 0.0) for each in cores) for kind in sorted({k for each in cores for k in each})}
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    return ", ".join(f"{kind} {share:.1%}" for kind, share in ordered if share >= 0.0005)


@dataclass(slots=True)
class Turns:
    """Records per second, turn by turn, and the shares of a core that a task's parts used in its turns."""

    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    stocks: dict[Way, list[float]] = field(default_factory=dict)
    cores: list[Cores] = field(default_factory=list)
    stocks_cores: dict[Way, list[Cores]] = field(default_factory=dict)
    batch_size_target: int = 0


class Live:
    """A stream with a backlog, and a worker of ours that reads it."""

    def __init__(self, aws: LocalAWS, case: Case, folder: Path) -> None:
        self.aws, self.case, self.folder = aws, case, folder
        self.rig = Rig(aws, f"bench-{case.model}", folder)
        self.rig.create(SHARDS)
        self.rig.put(payloads(case.model, case.backlog))

    def start(self) -> Worker:
        """Start the worker; return it once it is warm."""
        worker = self.rig.start(self._config())
        wait_until(lambda: worker.stats()["enriched"] >= self.case.warm, UP_S, "the worker is warm")
        return worker

    @contextlib.contextmanager
    def stock(self, way: Way) -> Iterator[Stock]:
        """Run another consumer of the stream; all its processes have predicted."""
        with Stock(self.rig.name, way, self.folder / f"stock-{way.model}-{way.calls}", self.aws.env) as made:

            def up() -> bool:
                made.check()
                counts = made.counts()
                return len(counts) >= SHARDS and min(counts) >= 2 * max(1, way.calls)

            wait_until(up, UP_S, "stock has loaded a model for every shard, and has predicted with each")
            yield made

    def _config(self) -> Path:
        """Write the configuration, and a profile next to it."""
        path = self.folder / "bench.toml"
        path.write_text(
            f'[stream]\nname = "{self.rig.name}"\napplication = "{self.rig.name}"\n'
            f'[model]\nfactory = "{self.case.factory}"\nversion = "bench"\n'
            f"[batch]\nmax_records = {self.case.max_records}\n"
            f"[kcl]\nfailover_ms = {FAILOVER_MS}\n"
            f'[health]\nport = 0\n[log]\nformat = "json"\n[dead_letter]\nurl = "{self.folder / "dead"}"\n'
            f'[[sink]]\ntype = "parquet"\nurl = "{self.folder / "table"}"\nflush_interval_s = 20\n'
        )
        case = self.case
        measured_for = profile.circumstances(load(path))
        profile.write(
            profile.Profile(case.replicas, case.threads, case.batch, 0, 0.0, 0.0, "beforehand", measured_for),
            profile.path_of(path),
        )
        return path


@contextlib.contextmanager
def live(case: Case) -> Iterator[Live]:
    """Run a local AWS with a stream for this case."""
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
    """Return records per second between two changes of the count, so that no batch is cut in two.

    The count is not read in between, because reading it costs the programs CPU time.
    """
    deadline_s = clock() + seconds + UP_S

    def change() -> tuple[float, int]:
        last = count()
        while (counted := count()) == last:
            if clock() > deadline_s:
                raise RuntimeError("nothing is predicted any more")
            sleep(LOOK_S)
        return clock(), counted

    from_s, before = change()
    sleep(seconds)
    until_s, after = change()
    return (after - before) / (until_s - from_s)


def take_turns(made: Live, worker: Worker, runs: int, ways: Sequence[Way] = ()) -> Turns:
    """Measure ours, the bare loop, and stock in each of these ways, in turns."""
    case = made.case
    turns = Turns(stocks={way: [] for way in ways}, stocks_cores={way: [] for way in ways})
    ours, cloud = Tree(psutil.Process(worker.process.pid)), Tree(_local_aws())
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours.stopped())
        stocks: list[Stock] = []
        for way in ways:
            stocks.append(stack.enter_context(made.stock(way)))
            stack.enter_context(stocks[-1].tree.stopped())
            _renew([ours, *(each.tree for each in stocks)])
        bare = stack.enter_context(Bare(case.model, case.batch, replicas=case.replicas, threads=case.threads))
        for _ in range(runs):
            with ours.going_on():
                time.sleep(SETTLING_S)
                spent = Spent(ours, cloud)
                turns.ours.append(rate(lambda: int(worker.stats()["enriched"]), case.turn_s))
                turns.cores.append(spent.cores())
                turns.batch_size_target = int(worker.stats()["batch_size_target"])
            with burning(turns.cores[-1][AWS]):
                turns.bare.append(bare.rate(case.turn_s))
            for each in stocks:
                with each.tree.going_on():
                    time.sleep(SETTLING_S)
                    spent = Spent(each.tree, cloud)
                    turns.stocks[each.way].append(rate(each.predicted, each.way.turn_s))
                    turns.stocks_cores[each.way].append(spent.cores())
    return turns


def efficiency(case: Case, turns: Turns) -> Figure:
    """Return the rate of a saturated task ÷ that of the bare loop, which runs next to as much load as the local AWS
    had.
    """
    text = (
        f"saturated task / bare loop in batches of {case.batch}, {case.replicas} x {case.threads} threads; "
        f"batches of {turns.batch_size_target} were found to be quickest; "
        f"CPU use (100 % = one core): {told(turns.cores)}"
    )
    return Figure(f"efficiency_{case.model}", ratios(turns.ours, turns.bare), bar=BARS[case.model], text=text)


BARS = {"minilm": 0.90, "reference": 0.95}
"""Targets of the efficiency."""


def minilm(runs: int) -> list[Figure]:
    """Compare with the bare loop and with stock, the latter with sentence-transformers and with the same model as
    ours.
    """
    with live(MINILM) as made:
        turns = take_turns(made, made.start(), runs, [stock.USUAL, stock.SAME_MODEL])
    return [
        beside_stock("vs_stock", turns, stock.USUAL, "MiniLM by sentence-transformers"),
        beside_stock("vs_stock_same_model", turns, stock.SAME_MODEL, "MiniLM by the class that Penstock runs"),
        efficiency(MINILM, turns),
    ]


def beside_stock(key: str, turns: Turns, way: Way, what: str, bar: float | None = 2.0) -> Figure:
    """Return our records per second ÷ stock's."""
    cores = told(turns.stocks_cores[way])
    text = f"records/s / stock amazon_kclpy, {SHARDS} shards, {what}; CPU use of stock (100 % = one core): {cores}"
    return Figure(key, ratios(turns.ours, turns.stocks[way]), "x", bar=bar, text=text)


def reference(runs: int) -> list[Figure]:
    """Compare with the bare loop; compare memory with one replica and with the fastest number of replicas."""
    with live(REFERENCE) as made:
        worker = made.start()
        two = _pss_mib(worker)
        turns = take_turns(made, worker, runs)
    with live(ONE_REPLICA) as made:
        worker = made.start()
        one = _pss_mib(worker)
        worker.leave(UP_S)  # at the same time they would share pages
        with made.stock(stock.REFERENCE) as beside:
            theirs = [beside.tree.pss_mib() for _ in range(MEMORY_LOOKS)]
    return [
        _memory("memory_vs_stock", theirs, one, "one replica", 5.0),
        _memory("memory_vs_stock_two", theirs, two, "two replicas, which are quicker here", None),
        efficiency(REFERENCE, turns),
    ]


def _pss_mib(worker: Worker) -> list[float]:
    """Memory of a task's processes together."""
    return [Tree(psutil.Process(worker.process.pid)).pss_mib() for _ in range(MEMORY_LOOKS)]


def _memory(key: str, theirs: Sequence[float], ours: Sequence[float], what: str, bar: float | None) -> Figure:
    text = f"PSS: {min(theirs):,.0f} MiB / {max(ours):,.0f} MiB, {SHARDS} shards, 1 GB reference; ours has {what}"
    return Figure(key, ratios(theirs, ours), "x", bar=bar, text=text)


@contextlib.contextmanager
def burning(share: float) -> Iterator[None]:
    """A process that uses this share of a core."""
    program = BURN.format(busy=share / 100, idle=max(0.0, 1 - share) / 100)
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Return the ratios turn by turn."""
    return [one / other for one, other in zip(these, those, strict=True)]


def _renew(trees: Sequence[Tree]) -> None:
    """Let the programs renew their leases before these expire."""
    for tree in trees:
        with tree.going_on():
            time.sleep(SETTLING_S)


def _local_aws() -> psutil.Process:
    """The child process that runs the local AWS."""
    children = psutil.Process().children()
    return next(child for child in children if any("consumer.local" in word for word in child.cmdline()))


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return all figures."""
    return {figure.key: figure for figure in (*minilm(runs), *reference(runs))}


if __name__ == "__main__":
    from benchmarks.alone import run

    run(measure)

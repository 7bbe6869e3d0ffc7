"""The whole application under everything at once, a thousand times; and mutants of it, which must be found out.

A failing seed prints its history, and the command that lives it again; ``PENSTOCK_SEEDS`` says how many to live.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.simulation.app_mutants import MUTANTS
from tests.simulation.app_world import World

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "400"))
CHUNKS = 20
MUTANT_SEEDS = 100

HISTORIES = """
import logging
from tests.simulation.app_world import World
logging.disable(logging.CRITICAL)
for seed in range(8):
    world = World(seed)
    world.run()
    print(*world.history, sep="\\n")
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings are what is wanted here; and collecting garbage less often saves a tenth of the time."""
    logging.disable(logging.CRITICAL)
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    logging.disable(logging.NOTSET)


def live(seed: int) -> None:
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        history = "\n".join(world.history)
        again = f"PENSTOCK_SEED={seed} pytest tests/simulation/test_app.py -k one"
        raise AssertionError(f"seed {seed}: {error!r}\n{history}\nagain: {again}") from error


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_a_promise(chunk: int) -> None:
    lived = 0
    for seed in range(chunk, SEEDS, CHUNKS):
        live(seed)
        lived += 1
    assert lived == len(range(chunk, SEEDS, CHUNKS))


def test_one_seed_is_lived_again() -> None:
    seed = int(os.environ.get("PENSTOCK_SEED", "0"))
    live(seed)
    first, second = World(seed), World(seed)
    first.run()
    second.run()
    assert first.history == second.history


def test_a_seed_is_the_same_in_every_process() -> None:
    """Whatever order a process has its sets in."""
    told = set()
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-c", HISTORIES],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(ran.stdout)
    assert len(told) == 1
    assert "calm" in told.pop()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_promise_is_found_out(mutant: str) -> None:
    def bad(seed: int) -> bool:
        try:
            World(seed, MUTANTS[mutant]).run()
        except AssertionError:
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))

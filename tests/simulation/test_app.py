"""The whole application with all faults at once, in a thousand runs; and broken variants of it, which must be detected.

A failing seed prints its history, and the command that runs it again. ``PENSTOCK_SEEDS``: how many seeds to run, from 0
on.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.app_mutants import MUTANTS
from tests.simulation.app_world import World
from tests.simulation.seeds import ALL, first_of, seeds

SEEDS = 300
CHUNKS = 20
MUTANT_SEEDS = 100
RARELY_FOUND = {
    "admits without bound": 55,
    "content with any sink": 8,
    "forgets what it refused": 15,
    "keeps lost leases": 6,
    "writes on for the lost": 6,
}
"""The seed that detected a mutant before is run first; if it no longer does, all are run."""

HISTORIES = """
import logging
from tests.simulation import asked_once
from tests.simulation.app_world import World
logging.disable(logging.CRITICAL)
for module, name, known in asked_once.ALL:
    setattr(module, name, known)
for seed in range(8):
    world = World(seed)
    world.run()
    print(*world.history, sep="\\n")
"""


def live(seed: int) -> list[str]:
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        history = "\n".join(world.history)
        again = f"PENSTOCK_SEED={seed} pytest tests/simulation/test_app.py -k one"
        raise AssertionError(f"seed {seed}: {error!r}\n{history}\nagain: {again}") from error
    return world.history


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_a_promise(chunk: int) -> None:
    for seed in seeds(SEEDS, chunk, CHUNKS):
        live(seed)


def test_each_commit_has_its_own_seeds_and_the_soak_has_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    firsts = [first_of(f"{number * 2**20:08x}0123", SEEDS) for number in range(1000)]
    assert len(set(firsts)) > 900
    assert all(0 <= first <= ALL - SEEDS for first in firsts)
    assert first_of("", SEEDS) == 0
    monkeypatch.delenv("PENSTOCK_SEEDS", raising=False)
    lived = sorted(each for chunk in range(CHUNKS) for each in seeds(SEEDS, chunk, CHUNKS))
    assert lived == [*range(lived[0], lived[0] + SEEDS)]
    monkeypatch.setenv("PENSTOCK_SEEDS", str(ALL))
    assert sorted(each for chunk in range(CHUNKS) for each in seeds(SEEDS, chunk, CHUNKS)) == [*range(ALL)]


def test_one_seed_is_lived_again() -> None:
    seed = int(os.environ.get("PENSTOCK_SEED", "0"))
    assert live(seed) == live(seed)


def test_a_seed_is_the_same_in_every_process() -> None:
    """Independent of the order of sets in a process."""
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    env = {**os.environ, "PYTHONHASHSEED": other}
    told = subprocess.run([sys.executable, "-c", HISTORIES], env=env, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [line for seed in range(8) for line in history(seed)]
    assert "calm" in told


def history(seed: int) -> list[str]:
    world = World(seed)
    world.run()
    return "\n".join(world.history).splitlines()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_promise_is_found_out(mutant: str) -> None:
    def bad(seed: int) -> bool:
        try:
            World(seed, MUTANTS[mutant]).run()
        except AssertionError:
            return True
        return False

    first = RARELY_FOUND.get(mutant, 0)
    assert any(bad(seed) for seed in (first, *range(MUTANT_SEEDS)))

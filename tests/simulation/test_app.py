"""The whole application under everything at once, a thousand times; and mutants of it, which must be found out.

A failing seed prints its history, and the command that lives it again; ``PENSTOCK_SEEDS`` says how many to live.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulation.app_mutants import MUTANTS
from tests.simulation.app_world import World

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "1000"))
CHUNKS = 20
MUTANT_SEEDS = 100


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings are what is wanted here."""
    logging.disable(logging.CRITICAL)
    yield
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


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_promise_is_found_out(mutant: str) -> None:
    def bad(seed: int) -> bool:
        try:
            World(seed, MUTANTS[mutant]).run()
        except AssertionError:
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))

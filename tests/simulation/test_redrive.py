"""Redrives of dead letters with all faults at once, in thousands of runs; and broken variants, which must be detected.

A failing seed prints its history, and the command that runs it again. ``PENSTOCK_SEEDS``: how many seeds to run, from 0
on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from pipeline.errors import Fatal
from pipeline.record import Position, Record
from pipeline.table.redriven import RedrivenRows, redriven_key
from tests.simulation.chain_world import Bad
from tests.simulation.redrive_world import RedriveWorld
from tests.simulation.seeds import seeds

SEEDS = 100
CHUNKS = 5
MUTANT_SEEDS = 100


def live(seed: int) -> None:
    world = RedriveWorld(seed)
    try:
        world.run()
    except Exception as error:
        history = "\n".join(world.history)
        again = f"PENSTOCK_SEED={seed} pytest tests/simulation/test_redrive.py -k one"
        raise AssertionError(f"seed {seed}: {error!r}\n{history}\nagain: {again}") from error


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_gives_a_record_two_rows_or_loses_a_letter(chunk: int) -> None:
    for seed in seeds(SEEDS, chunk, CHUNKS):
        live(seed)


def test_one_seed_is_lived_again() -> None:
    live(int(os.environ.get("PENSTOCK_SEED", "0")))


class DoesNotLook(RedrivenRows):
    """Knows only the rows that it has written itself."""

    def held(self) -> set[Position]:
        return set().union(*self._seen.values())

    def _next_key(self) -> str:
        number = 0
        while self._store.head(redriven_key(self._place, number)) is not None:
            number += 1
        return redriven_key(self._place, number)


class LooksOnce(RedrivenRows):
    """If its number is taken, takes the next free one with the same rows."""

    def add(self, records: Sequence[Record], writer: str) -> None:
        fresh = self._without(records, self.held())
        while fresh and not self._put(fresh, writer):
            self.held()


class NameOfItsOwn(RedrivenRows):
    """Does not check whether a name is taken."""

    def add(self, records: Sequence[Record], writer: str) -> None:
        self._writer = writer
        super().add(records, writer)

    def _next_key(self) -> str:
        return redriven_key(self._place, int(self._writer[1:]) * 1000 + len(self._seen))


class TakesAnyForItsOwn(RedrivenRows):
    """Assumes that the first writer has written the same rows."""

    def _put(self, records: Sequence[Record], writer: str) -> bool:
        super()._put(records, writer)
        return True


class Overwrites(RedrivenRows):
    def _put(self, records: Sequence[Record], writer: str) -> bool:
        if not super()._put(records, writer):
            self._store.objects.pop(self._next_key(), None)  # type: ignore[attr-defined]  # a MemoryStore
            return super()._put(records, writer)
        return True


@pytest.mark.parametrize(
    ("mutant", "first"),
    [
        ({"rows": DoesNotLook}, 0),
        ({"rows": LooksOnce}, 11),
        ({"rows": NameOfItsOwn}, 0),
        ({"rows": Overwrites}, 24),
        ({"rows": TakesAnyForItsOwn}, 24),
        ({"from_staged": True}, 5),
    ],
    ids=lambda given: str(next(iter(given.values()))) if isinstance(given, dict) else "",
)
def test_a_broken_protocol_is_found_out(mutant: dict[str, object], first: int) -> None:
    """``first``: the seed that detected it before is run first; if it no longer does, all are run."""

    def bad(seed: int) -> bool:
        try:
            RedriveWorld(seed, **mutant).run()  # type: ignore[arg-type]
        except (Bad, Fatal):
            return True
        return False

    assert any(bad(seed) for seed in (first, *range(MUTANT_SEEDS)))

"""The chain of files under everything at once, thousands of times; and mutants of it, which must be found out.

A failing seed prints its history, and the command that lives it again; ``PENSTOCK_SEEDS`` says how many to live.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.record import Enriched, Position, Record
from pipeline.sinks.chain import Chain, File
from pipeline.sinks.dead_letter import lines
from pipeline.sinks.parquet import Files
from tests.simulation.chain_world import Bad, World

SEEDS = int(os.environ.get("PENSTOCK_SEEDS", "2000"))
CHUNKS = 10
MUTANT_SEEDS = 150


def live(seed: int) -> None:
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        history = "\n".join(world.history)
        again = f"PENSTOCK_SEED={seed} pytest tests/simulation/test_chain.py -k one"
        raise AssertionError(f"seed {seed}: {error!r}\n{history}\nagain: {again}") from error


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_loses_doubles_or_splits_a_record(chunk: int) -> None:
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


class NeverAdopts(Files):
    """Takes every file that is in the way for its own."""

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        return file.end


class Overwrites(Files):
    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        put = super().prepare(file, writer)

        def over() -> Position:
            self._store.objects.pop(file.key, None)  # type: ignore[attr-defined]  # a MemoryStore
            return put()

        return over


class LeavesOutEmpty(Files):
    """Writes no file for a range without rows."""

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        if any(isinstance(record.outcome, Enriched) for record in file.records):
            return super().prepare(file, writer)
        return lambda: file.end


class RandomNames(Files):
    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        head, _, tail = file.key.rpartition("-")
        other = str(int(tail.removesuffix(".parquet")) * 10**9 + uuid.UUID(int=hash(writer) % 2**128).int % 10**9)
        return super().prepare(replace(file, key=f"{head}-{other.zfill(56)}.parquet"), writer)


class LettersFirst(Files):
    """Writes dead letters before the file is committed."""

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        put = super().prepare(file, writer)
        dead = [record for record in file.records if not isinstance(record.outcome, Enriched)]

        def early() -> Position:
            body = lines(dead, self._schema, datetime.now(UTC))
            self._put_letters(file.key, body, writer)
            return put()

        return early


class SplitsAggregates(Chain):
    def add(self, records: list[Record], now: float) -> None:  # type: ignore[override]
        for record in records:
            record.whole = True
        super().add(records, now)


@pytest.mark.parametrize(
    "mutant",
    [
        {"committer": NeverAdopts},
        {"committer": Overwrites},
        {"committer": LeavesOutEmpty},
        {"committer": RandomNames},
        {"committer": LettersFirst},
        {"chain": SplitsAggregates},
        {"hasty": True},
    ],
    ids=lambda mutant: str(next(iter(mutant.values()))),
)
def test_a_broken_protocol_is_found_out(mutant: dict[str, object]) -> None:
    def bad(seed: int) -> bool:
        try:
            World(seed, **mutant).run()  # type: ignore[arg-type]
        except Bad:
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))

"""The chain of files with all faults at once, in thousands of runs; and broken variants of it, which must be detected.

A failing seed prints its history, and the command that runs it again. ``PENSTOCK_SEEDS``: how many seeds to run, from 0
on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.errors import Fatal
from pipeline.record import Enriched, Position
from pipeline.sinks.chain import File
from pipeline.sinks.parquet import Files
from pipeline.stores.base import Metadata
from pipeline.table.names import letters_key
from pipeline.table.staged_letters import Ledger
from tests.simulation.chain_world import Bad, World
from tests.simulation.seeds import seeds

SEEDS = 600
CHUNKS = 10
MUTANT_SEEDS = 150


def live(seed: int) -> list[str]:
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        history = "\n".join(world.history)
        again = f"PENSTOCK_SEED={seed} pytest tests/simulation/test_chain.py -k one"
        raise AssertionError(f"seed {seed}: {error!r}\n{history}\nagain: {again}") from error
    return world.history


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_loses_doubles_or_splits_a_record(chunk: int) -> None:
    for seed in seeds(SEEDS, chunk, CHUNKS):
        live(seed)


def test_one_seed_is_lived_again() -> None:
    seed = int(os.environ.get("PENSTOCK_SEED", "0"))
    assert live(seed) == live(seed)


class NeverAdopts(Files):
    """Considers every file with its key its own."""

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
        head = file.key.rpartition("-")[0]
        other = f"{uuid.UUID(int=hash(writer) % 2**128).int % 10**10:010}"
        return super().prepare(replace(file, key=f"{head}-{other}.parquet"), writer)


class LettersFirst(Files):
    """Writes dead letters before the file is committed."""

    def _stage(self, writer: str, letters: bytes) -> None:
        super()._stage(writer, letters)
        self._finish(self._key, writer, letters)

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        self._key = file.key
        return super().prepare(file, writer)


class DurableBeforeLetters(Files):
    """Reports a range as durable, and writes its dead letters with those of the next one."""

    _late: tuple[str, str, bytes] | None = None

    def _finish(self, key: str, writer: str, letters: bytes) -> None:
        if self._late is not None:
            super()._finish(*self._late)
        self._late = (key, writer, letters)


class StagesLate(Files):
    """Commits the file first, so the letters that it names may never be staged."""

    def _stage(self, writer: str, letters: bytes) -> None:
        return

    def _finish(self, key: str, writer: str, letters: bytes) -> None:
        super()._stage(writer, letters)
        super()._finish(key, writer, letters)


class LeavesCrashesBe(Ledger):
    """Does not complete what another writer has left."""

    def complete(self, key: str, metadata: Metadata) -> bool:
        return False


class WritesItsOwn(Files):
    """If it finds another writer's file, writes the letters of its own range for it."""

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        end = super()._taken(file, writer, letters)
        if self._ledger is not None and letters:
            self._ledger.final.put_new(letters_key(file.key), letters, {})
        return end

    def _adopt(self, key: str, metadata: Metadata) -> None:
        return


@pytest.mark.parametrize(
    "mutant",
    [
        {"committer": NeverAdopts},
        {"committer": Overwrites},
        {"committer": LeavesOutEmpty},
        {"committer": RandomNames},
        {"committer": LettersFirst},
        {"committer": DurableBeforeLetters},
        {"committer": StagesLate},
        {"committer": WritesItsOwn},
        {"ledger": LeavesCrashesBe},
        {"hasty": True},
    ],
    ids=lambda mutant: str(next(iter(mutant.values()))),
)
def test_a_broken_protocol_is_found_out(mutant: dict[str, object]) -> None:
    def bad(seed: int) -> bool:
        try:
            World(seed, **mutant).run()  # type: ignore[arg-type]
        except (Bad, Fatal):
            return True
        return False

    assert any(bad(seed) for seed in range(MUTANT_SEEDS))

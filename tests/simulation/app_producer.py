"""Puts records on the stream of the simulated application: good, bad, broken and, once, one that fells its task."""

from __future__ import annotations

import random
from typing import Protocol

from consumer.testing import FakeStream, aggregates
from pipeline.testing import Simulation
from tests.simulation.app_model import BAD, FELLS, GARBLED, GOOD, payload
from tests.simulation.app_promises import Promises

DAY_MS = 24 * 60 * 60 * 1000
FIRST_MS = 1_795_000_000_000 // DAY_MS * DAY_MS


class World(Protocol):
    """What a producer needs of the world. ``calm``: nothing more comes."""

    calm: bool
    random: random.Random
    stream: FakeStream
    simulation: Simulation
    promises: Promises


class Producer:
    """The only producer of a seed."""

    def __init__(self, world: World, *, felling: bool) -> None:
        """``felling``: one of its records fells the task that predicts it."""
        self.produced = 0
        self._world = world
        self._felling = felling

    def produce(self) -> None:
        if self._world.calm or self.produced > 45:
            return
        for _ in range(self._world.random.randint(1, 6)):
            self.put(self._world.random.choice(self._world.stream.open_shards))

    def put(self, shard_id: str) -> None:
        kinds = [self._kind() for _ in range(self._world.random.choice([1, 1, 1, 2, 4]))]
        payloads = [payload(self.produced, kind, self._world.random.choice([0, 10, 100, 400])) for kind in kinds]
        arrived_ms = FIRST_MS + int(self._world.simulation.now * 1000)
        arrived_ms += DAY_MS * (self._world.random.random() < 0.05)
        key = self._world.random.choice(["a", "b", "c", "d", "e", None])
        if self._world.random.random() < 0.1:
            data, kinds = self._broken(payloads, kinds)
            positions = self._world.stream.put_record(shard_id, data, len(kinds), arrived_ms=arrived_ms, key=key)
        else:
            positions = self._world.stream.put(shard_id, payloads, arrived_ms=arrived_ms, key=key)
        self._world.promises.produced(shard_id, positions, kinds)
        self.produced += len(kinds)

    def _broken(self, payloads: list[bytes], kinds: list[str]) -> tuple[bytes, list[str]]:
        """An aggregate with user records that name missing keys, or that cannot be read."""
        if self._world.random.random() < 0.3:
            return aggregates.sealed(aggregates.field(1, b"a") + aggregates.user(payloads[0])[:-1]), [GARBLED]
        lost = [self._world.random.random() < 0.5 for _ in payloads]
        users = b"".join(aggregates.user(data, 7 * is_lost) for data, is_lost in zip(payloads, lost, strict=True))
        fates = [GARBLED if is_lost else kind for is_lost, kind in zip(lost, kinds, strict=True)]
        return aggregates.sealed(users + aggregates.field(1, b"a")), fates

    def _kind(self) -> str:
        if self._felling and self._world.random.random() < 0.05:
            self._felling = False
            return FELLS
        return self._world.random.choice(BAD) if self._world.random.random() < 0.1 else GOOD

"""Puts an uneven flow of small records on the stream, some in KPL aggregates, some bad.

Between them it puts aggregates of every bad kind (:mod:`tests.chaos.hostile`): small ones often, those of full size
once.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aws_kinesis_agg.aggregator
from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos import hostile
from tests.chaos.hostile import Put

STEP_S = 0.25
SWELL_S = 47.0
"""Seconds of one wave of the flow."""

KEYS = 60
AGGREGATES = 0.05
"""Share of puts that are an aggregate."""

AGGREGATED_AT_MOST = 12

FIRST = 0.1
"""Share of puts that are bad, until each kind of bad record was put once."""

HOSTILE = 0.006
"""Share of puts that are an aggregate with an error, or with very many user records."""

PUT_RECORDS, PUT_BYTES = 300, 4 * 1024 * 1024
"""Maximum number of records in one call."""

BAD: dict[str, float] = {
    "reject": 0.004,
    "raise": 0.003,
    "json": 0.002,
    "empty": 0.001,
    "segfault": 0.0006,
    "exit": 0.0004,
    "hang": 0.0003,
}
"""Kinds of poison, each with its share of the flow."""


def payload(n: int, kind: str) -> bytes:
    """A record with this number; healthy if ``kind`` is empty."""
    if kind == "empty":
        return b""
    if kind == "json":
        return f'{{"n": {n}, '.encode()
    return json.dumps({"n": n, "do": kind, "text": "x" * (n * 37 % 400)}).encode()


def kind_of(data: bytes) -> str:
    """The kind of a payload: empty if it is healthy, else its kind of poison."""
    try:
        return str(json.loads(data)["do"])
    except ValueError:
        return "json" if data else "empty"


def number_of(data: bytes) -> int:
    """The number of a healthy payload."""
    return int(json.loads(data)["n"])


class Mixer:
    """Makes a random flow from a seed. The first records are one of each kind of poison, if ``poisoned``; so are the
    first hostile aggregates."""

    def __init__(self, seed: int, *, poisoned: bool = True) -> None:
        self.dice = random.Random(seed)
        self.made = 0
        self._first = list(BAD) if poisoned else []
        self._bad = BAD if poisoned else {}
        self._first_hostile = list(hostile.KINDS) if poisoned else []
        self._hostile = HOSTILE if poisoned else 0.0

    def some(self, count: int) -> Iterator[Put]:
        for _ in range(count):
            dart = self.dice.random()
            if dart < self._hostile or (self._first_hostile and dart < FIRST):
                kind = self._first_hostile.pop() if self._first_hostile else self.dice.choice(hostile.KINDS)
                yield from hostile.puts(kind, self._next, self._key())
            elif self.dice.random() < AGGREGATES:
                yield self._aggregate()
            else:
                yield Put(payload(self._next(), self._kind()), self._key())

    def giants(self, scale: float, seconds: float) -> list[tuple[float, list[Put]]]:
        """Each large kind once, at this share of its full size, each with a time within the first half of
        ``seconds``."""
        times = sorted(self.dice.uniform(0.05, 0.5) * seconds for _ in hostile.LARGE)
        return [
            (at_s, list(hostile.puts(kind, self._next, self._key(), scale)))
            for at_s, kind in zip(times, hostile.LARGE, strict=True)
        ]

    def _aggregate(self) -> Put:
        """Records of one key, so that none belongs to another shard."""
        aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
        key = self._key()
        for _ in range(self.dice.randint(2, AGGREGATED_AT_MOST)):
            aggregator.add_user_record(key, payload(self._next(), self._kind()))
        _, _, data = aggregator.clear_and_get().get_contents()
        return Put(bytes(data), key)

    def _next(self) -> int:
        self.made += 1
        return self.made

    def _kind(self) -> str:
        if self._first and self.dice.random() < FIRST:
            return self._first.pop()
        dart = self.dice.random()
        for kind, share in self._bad.items():
            dart -= share
            if dart < 0:
                return kind
        return ""

    def _key(self) -> str:
        """A key; some keys are much more frequent than others."""
        return f"key-{int(KEYS * self.dice.random() ** 2)}"


@dataclass(slots=True)
class Answered:
    """The records that Kinesis has accepted: shard and sequence number of each, with its data."""

    records: dict[tuple[str, str], bytes] = field(default_factory=dict)
    outages: Counter[str] = field(default_factory=Counter)


class Producer(threading.Thread):
    """Puts records until :meth:`end`, then the rest. Refused records and those without an answer are put again.

    ``giants``: large aggregates, with the seconds after which each is put. ``keyless``: every other record has no key.
    """

    def __init__(
        self, client: Any, stream: str, mixer: Mixer, per_s: float, giants: Sequence[tuple[float, list[Put]]] = ()
    ) -> None:
        super().__init__(name="producer", daemon=True)
        self.answered = Answered()
        self.keyless = False
        self._client = client
        self._stream = stream
        self._mixer = mixer
        self._per_s = per_s
        self._end = threading.Event()
        self._waiting: list[Put] = []
        self._giants = list(giants)

    def end(self, deadline_s: float = 60) -> None:
        """Return when everything is put and answered."""
        self._end.set()
        self.join(deadline_s)
        assert not self.is_alive(), "the producer does not get its records onto the stream"

    def run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(STEP_S):
            at_s = time.monotonic() - began
            while self._giants and self._giants[0][0] <= at_s:
                self._waiting += self._giants.pop(0)[1]
            self._waiting += self._mixer.some(self._due(at_s))
            self._put()
        while self._waiting:
            self._put()
            time.sleep(STEP_S)  # what was refused is not put again at once

    def _due(self, at_s: float) -> int:
        """Records per second at a time: waves, with bursts and pauses."""
        dice = self._mixer.dice
        swell = 1 + 0.8 * math.sin(2 * math.pi * at_s / SWELL_S)
        burst = 12 if dice.random() < 0.01 else 1
        return int(self._per_s * STEP_S * swell * burst + dice.random())

    def _put(self) -> None:
        batch, size = list[Put](), 0
        for put in self._waiting[:PUT_RECORDS]:
            size += len(put.data)
            if batch and size > PUT_BYTES:
                break
            batch.append(put)
        if batch:
            self._waiting = self._refused(batch) + self._waiting[len(batch) :]

    def _refused(self, batch: Sequence[Put]) -> list[Put]:
        keyless = self.keyless
        entries = [put.entry(keyless=keyless and place % 2 == 0) for place, put in enumerate(batch)]
        try:
            answers = self._client.put_records(StreamName=self._stream, Records=entries)["Records"]
        except (ClientError, BotoCoreError) as error:
            self.answered.outages[type(error).__name__] += 1
            return list(batch)
        refused = []
        for put, answer in zip(batch, answers, strict=True):
            if "ErrorCode" in answer:
                refused.append(put)
            else:
                self.answered.records[answer["ShardId"], answer["SequenceNumber"]] = put.data
        return refused

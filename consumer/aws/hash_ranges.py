"""The hash key ranges of a stream's shards, to find aggregates in the wrong shard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from consumer.aws.shards import KnownShard, known, spread_by_key
from pipeline import background
from pipeline.hash_keys import HashRange

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

log = logging.getLogger("leases")

WAIT_S = 2.0
"""Maximum seconds that a session waits for an answer. Without one the ranges are unknown."""

AGAIN_S = 60.0
"""Seconds that an answer is valid. The range of a shard never changes, but the distribution strategy may."""


class HashRanges:
    """The ranges of one stream, requested when sessions start: two calls of Kinesis for all shards together.

    ``thread`` makes the calls beside the event loop.
    """

    def __init__(
        self,
        kinesis: Callable[[], KinesisClient],
        stream: str,
        *,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.monotonic,
        thread: background.StartThread = background.thread,
    ) -> None:
        self._kinesis = kinesis
        self._stream = stream
        self._wait_s = wait_s
        self._clock = clock
        self._thread = thread
        self._known: Mapping[str, HashRange] = {}
        self._asked_s = -AGAIN_S
        self._asking: asyncio.Future[None] | None = None

    async def of(self, shard_id: str) -> HashRange | None:
        """Return the range of a shard. None if Kinesis does not answer in time, or if keys do not select the shard."""
        if shard_id not in self._known or self._clock() - self._asked_s >= AGAIN_S:
            if self._asking is None or self._asking.done():
                self._asking = self._answer()
            await asyncio.wait((self._asking,), timeout=self._wait_s)
        return self._known.get(shard_id)

    def _answer(self) -> asyncio.Future[None]:
        """Ask in a daemon thread, so that a silent Kinesis does not delay the end of the task."""
        loop = asyncio.get_running_loop()
        answered = loop.create_future()

        def ask() -> None:
            self._ask()
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(answered.set_result, None)

        try:
            self._thread(
                ask, name="the request for the shards' hash keys", on_failure=lambda error: answered.set_result(None)
            )
        except RuntimeError:  # no thread: then nothing is known, as if Kinesis were silent
            answered.set_result(None)
        return answered

    def _ask(self) -> None:
        try:
            self._known = found(self._kinesis(), self._stream)
            self._asked_s = self._clock()
        except Exception as error:  # noqa: BLE001  # then nothing is counted, which ends no task
            log.debug("the hash keys of %s's shards are not known: %s", self._stream, error)


def found(kinesis: KinesisClient, stream: str) -> dict[str, HashRange]:
    """Return the ranges by shard id; empty if keys do not select the shard. Raises the errors of botocore."""
    return of_shards(known(kinesis, stream)) if spread_by_key(kinesis, stream) else {}


def of_shards(shards: Mapping[str, KnownShard]) -> dict[str, HashRange]:
    """The range of hash keys of each shard, both ends included."""
    return {shard_id: HashRange(*map(int, shard.hash_keys)) for shard_id, shard in shards.items()}

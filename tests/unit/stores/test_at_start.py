"""A store's check at start waits for failures that pass, and reports those that last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.stores.base import Denied, Retryable
from pipeline.stores.calls import at_start


def waits_of(check: Callable[[int], None]) -> list[float]:
    """``check`` gets the number of waits."""
    waits = list[float]()

    async def call(work: Callable[[], Any]) -> None:
        work()

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    asyncio.run(at_start(lambda: check(len(waits)), call, sleep))
    return waits


def test_a_store_that_does_not_answer_at_start_is_a_user_error() -> None:
    tries = []

    def silent(waited: int) -> None:
        tries.append(waited)
        raise Retryable("no answer")

    with pytest.raises(UserError, match=r"no answer.*Make sure that it answers"):
        waits_of(silent)
    assert tries == [0, 1, 2, 3, 4]


def test_a_conflict_at_start_is_waited_for() -> None:
    def busy(waited: int) -> None:
        if waited < 2:
            raise Retryable("409")

    assert waits_of(busy) == [0.5, 1.0]


def test_a_refusal_at_start_is_not_waited_for() -> None:
    def refuse(waited: int) -> None:
        raise Denied("no")

    with pytest.raises(Denied):
        waits_of(refuse)

"""The pages that a careful reader gets of a shard that is read for a slice."""

from __future__ import annotations

from consumer.kcl.bounded import MARGIN_MS, Slice
from consumer.poison.reader import Page
from consumer.slice_task import SlicePages
from pipeline.record import Position, Record

SHARD = "shardId-000000000000"
SLICE = Slice(1_000, 2_000)


class Shard:
    """Two records a page."""

    def __init__(self, *arrived_ms: int) -> None:
        self._records = [Record(SHARD, b"", None, str(number), 0, at) for number, at in enumerate(arrived_ms, 1)]

    def after(self, shard_id: str, position: Position | None) -> Page:
        rest = [each for each in self._records if position is None or each.position > position]
        return Page(rest[:2], len(rest) <= 2)


def seen(*arrived_ms: int) -> list[tuple[list[int], bool]]:
    pages, position, found = SlicePages(Shard(*arrived_ms), SLICE, sleep=lambda seconds: None), None, []
    while True:
        page = pages.after(SHARD, position)
        found.append(([record.arrived_ms for record in page.records], page.last))
        if page.last:
            return found
        position = page.records[-1].position


def test_records_before_the_slice_are_passed_over() -> None:
    assert seen(1, 2, 3, 4, 1_500, 1_600) == [([1_500, 1_600], True)]


def test_nothing_follows_the_end() -> None:
    assert seen(1_000, 1_999, 2_000, 2_000 + MARGIN_MS, 1_500) == [([1_000, 1_999], False), ([], True)]


def test_a_shard_without_records_of_the_slice_is_one_empty_page() -> None:
    assert seen() == [([], True)]
    assert seen(1, 2, 3) == [([], True)]

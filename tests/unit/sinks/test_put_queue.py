from __future__ import annotations

import pytest

from pipeline.record import Position
from pipeline.sinks.put_queue import OrderedPutQueue, QueuedRow


def put(put_queue: OrderedPutQueue, *rows: tuple[str, bytes] | None) -> None:
    start = len(put_queue)
    for number, row in enumerate(rows, start):
        put_queue.put(Position(number, 0), row)


def data(request: list[QueuedRow]) -> list[bytes]:
    return [row.data for row in request]


def test_one_call_holds_one_row_per_key_in_order() -> None:
    put_queue = OrderedPutQueue()
    put(put_queue, ("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4"))
    assert data(put_queue.take()) == [b"1", b"2", b"4"]
    assert put_queue.take() == []


def test_a_refused_row_holds_back_its_key_and_no_other() -> None:
    put_queue = OrderedPutQueue()
    put(put_queue, ("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4"))
    put_queue.settle(put_queue.take(), [False, True])
    assert data(put_queue.take()) == [b"1", b"4"]


def test_refused_rows_go_first_and_keep_their_order() -> None:
    put_queue = OrderedPutQueue(request_rows=2)
    put(put_queue, ("a", b"1"), ("b", b"2"), ("c", b"3"))
    put_queue.settle(put_queue.take(), [False, False])
    assert data(put_queue.take()) == [b"1", b"2"]


def test_a_call_is_bounded_by_rows_and_by_bytes_but_a_large_row_goes_alone() -> None:
    put_queue = OrderedPutQueue(request_rows=3, request_bytes=10)
    put(put_queue, ("a", b"x" * 50), ("b", b"x" * 4), ("c", b"x" * 4), ("d", b"x"), ("e", b"x"))
    sizes = []
    while request := put_queue.take():
        sizes.append([row.size_bytes for row in request])
        put_queue.settle(request, [True] * len(request))
    assert sizes == [[51], [5, 5], [2, 2]]


def test_keys_count_in_utf8() -> None:
    assert QueuedRow(0, "é", b"12").size_bytes == 4


def test_dead_records_alone_are_durable_at_once() -> None:
    put_queue = OrderedPutQueue()
    put(put_queue, None, None)
    assert put_queue.durable == Position(1, 0)
    assert len(put_queue) == put_queue.bytes == 0


def test_durable_waits_for_the_oldest_row() -> None:
    put_queue = OrderedPutQueue()
    put(put_queue, None, ("a", b"1"), None, ("b", b"2"), None)
    put_queue.settle(put_queue.take(), [False, True])
    assert put_queue.durable == Position(0, 0)
    put_queue.settle(put_queue.take(), [True])
    assert put_queue.durable == Position(4, 0)


def test_durable_may_stop_inside_an_aggregate() -> None:
    """A checkpoint may not be inside an aggregate, and stays before it: the number of its user records is unknown."""
    put_queue = OrderedPutQueue()
    put_queue.put(Position(1, 0), ("a", b"1"))
    put_queue.put(Position(2, 0), ("b", b"2"))
    put_queue.put(Position(2, 1), ("c", b"3"))
    put_queue.settle(put_queue.take(), [True, True, False])
    assert put_queue.durable == Position(2, 0)
    put_queue.settle(put_queue.take(), [True])
    assert put_queue.durable == Position(2, 1)


@pytest.mark.parametrize("size_mib", [1, 5, 6, 9, 10])
def test_a_call_is_never_more_than_put_records_takes(size_mib: int) -> None:
    """A row may be as large as a whole call (10 MiB); then it is sent alone."""
    put_queue = OrderedPutQueue()
    put(put_queue, *((str(number), b"x" * (size_mib * 1024 * 1024 - 1)) for number in range(4)))
    calls = []
    while request := put_queue.take():
        calls.append(sum(row.size_bytes for row in request))
        put_queue.settle(request, [True] * len(request))
    assert max(calls) <= 10 * 1024 * 1024 and sum(calls) == 4 * size_mib * 1024 * 1024
    assert size_mib <= 2 or len(calls) == 4

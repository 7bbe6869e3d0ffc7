"""Padding on real texts, whose lengths are heavy-tailed: the docstrings of the standard library."""

from __future__ import annotations

import json
from functools import cache

import pytest
from tokenizers import Tokenizer

from examples.demo.corpus import records as docstrings
from examples.minilm import MAX_TOKENS, installed_folder, read_text
from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.record import Record, cost_of

SHARDS = 8


@cache
def lengths() -> tuple[int, ...]:
    """Lengths in tokens of 3,000 docstrings."""
    tokenizer = Tokenizer.from_str(read_text(installed_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    texts = [json.loads(data)["text"] for data, _ in docstrings(3_000, seed=2)]
    return tuple(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))


@cache
def batches(plan: BatchPlan, *, max_records: int = 64) -> list[list[Record]]:
    """Docstrings that arrive on eight shards while batches are taken, with a backlog of about 1,000."""
    batcher = Batcher(max_records=max_records, max_cost=0, linger_s=0.02, bucket_records=512)
    batcher.follow(plan)
    waiting = iter([Record(str(i % SHARDS), b"", "", str(i), 0, 0, cost=cost) for i, cost in enumerate(lengths())])
    taken: list[list[Record]] = []
    now, more = 0.0, True
    while more or len(batcher):
        while more and len(batcher) < 1_000:
            record = next(waiting, None)
            more = record is not None
            if record is not None:
                batcher.add(record.shard_id, [record], now)
        taken.append(batcher.take(now, draining=not more))
        now += 0.1
    return taken


@pytest.mark.parametrize(
    "plan", [BatchPlan(), BatchPlan(cost=512), BatchPlan(cost=1024, call_cost=64), BatchPlan(cost=4096, call_cost=256)]
)
def test_padding_is_at_most_15_percent_of_docstrings(plan: BatchPlan) -> None:
    taken = batches(plan)
    cost = sum(cost_of(batch, pads=False) for batch in taken)
    assert cost == sum(lengths())
    assert sum(cost_of(batch, pads=True) for batch in taken) <= 1.15 * cost


def test_in_order_of_arrival_padding_would_be_several_times_that() -> None:
    costs = lengths()
    fifo = sum(max(costs[start : start + 64]) * len(costs[start : start + 64]) for start in range(0, len(costs), 64))
    assert fifo > 3 * sum(costs)


def test_batches_are_still_large() -> None:
    taken = batches(BatchPlan(cost=4096, call_cost=256))
    assert sum(map(len, taken)) / len(taken) > 25


def test_no_record_is_overtaken_by_as_many_as_bucket_records() -> None:
    left: dict[str, list[int]] = {}
    for batch in batches(BatchPlan(cost=1024)):
        for record in batch:
            left.setdefault(record.shard_id, []).append(int(record.sequence))
    for sequences in left.values():
        for place, sequence in enumerate(sequences):
            assert sum(earlier > sequence for earlier in sequences[:place]) < 512 // SHARDS

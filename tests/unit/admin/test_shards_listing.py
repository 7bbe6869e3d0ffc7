"""The list of shards: lineage, loads, samples, and a stream of 500 shards."""

from __future__ import annotations

import io
import random
from typing import Any

import pytest
from rich.console import Console

from consumer.admin.shards.carry_out import ReshardOutside, until_active
from consumer.admin.shards.lineage import forest
from consumer.admin.shards.listing import Listing, of_limit, sampled
from consumer.admin.shards.readers import Reader
from consumer.aws import shard_metrics, shards
from consumer.aws.shard_metrics import ShardLoad
from consumer.aws.shards import KnownShard
from consumer.cli import output
from consumer.cli.shards.listing import COLUMNS, rows, summary
from consumer.testing.aggregates import aggregate
from tests.support.clocked_kinesis import ClockedKinesis

STREAM = "s"


class World:
    """A stream with a clock that sleeping moves."""

    def __init__(self, count: int) -> None:
        self.kinesis = ClockedKinesis()
        self.client = self.kinesis.client
        self.outside = ReshardOutside(self.client, lambda: self.kinesis.now_ms / 1000, self.sleep)
        self.client.create_stream(StreamName=STREAM, ShardCount=count)
        until_active(self.outside, STREAM)

    def sleep(self, seconds: float) -> None:
        self.kinesis.now_ms += round(1000 * seconds)

    def listing(self, **more: Any) -> Listing:
        return Listing(shards.summary(self.client, STREAM), shards.known(self.client, STREAM), **more)


def test_500_shards_are_listed_page_by_page_and_summed_up_on_one_screen() -> None:
    world = World(500)
    pages = []

    def small_pages(operation: str, request: dict[str, Any]) -> None:
        if operation == "ListShards":
            request["MaxResults"] = 100
            pages.append(operation)

    world.kinesis.before = small_pages
    shards.recount(world.client, STREAM, 1000)
    until_active(world.outside, STREAM)
    found = world.listing()
    assert (len(pages), len(found.open), len(found.shards), found.whole) == (15, 1000, 1500, True)
    assert summary(found) == [
        "stream s: ACTIVE, provisioned, 1,000 open shards, 500 closed within 24 h",
        "hash keys: shared evenly",
        "load: unknown: shard-level metrics are not enabled on the stream; --sample reads some records of each shard",
        "read by: unknown. Name applications with --application: Kinesis does not know who polls",
    ]
    said = found.to_dict()
    assert len(said["shards"]) == 1500
    assert said["shards"][0]["records_per_s"] is None, "unknown is not 0"
    assert [shard["depth"] for shard in said["shards"][:6]] == [0, 1, 1, 0, 1, 1]


def test_lineage_has_every_shard_once_below_a_parent() -> None:
    world = World(3)
    rng = random.Random(5)
    for _ in range(12):
        opened = world.listing().open
        place = rng.randrange(len(opened) - 1)
        if rng.random() < 0.5:
            shards.merge(world.client, STREAM, opened[place].shard_id, opened[place + 1].shard_id)
        else:
            first, last = map(int, opened[place].hash_keys)
            shards.split(world.client, STREAM, opened[place].shard_id, (first + last) // 2)
        until_active(world.outside, STREAM)
    found = world.listing()
    nodes = forest(found.shards)
    assert sorted(node.shard.shard_id for node in nodes) == sorted(found.shards)
    path: list[str] = []
    for node in nodes:
        path[node.depth :] = [node.shard.shard_id]
        assert not node.depth or path[node.depth - 1] == node.shard.parents[0]
        assert node.other_parent == ", ".join(node.shard.parents[1:])


def test_a_shard_whose_parents_are_forgotten_stands_by_itself() -> None:
    shard = KnownShard("child", ("forgotten", "too"), hash_keys=("0", "9"))
    assert [(node.depth, node.other_parent) for node in forest({"child": shard})] == [(0, "too")]


def test_a_sample_takes_aggregates_apart_and_measures_load_and_hottest_keys() -> None:
    world = World(2)
    for _ in range(300):
        world.client.put_record(StreamName=STREAM, Data=b"12345", PartitionKey="hot", ExplicitHashKey="0")
        world.sleep(0.5)
    for key, users in (("inner", 40), ("hot", 10)):
        data = aggregate([b"x"] * users, [key])
        world.client.put_record(StreamName=STREAM, Data=data, PartitionKey="a", ExplicitHashKey="0")
    world.sleep(150)
    ids = [shard.shard_id for shard in world.listing().open]
    found = sampled(world.client, STREAM, ids, clock=world.outside.clock, sleep=world.sleep)
    busy, idle = found[ids[0]], found[ids[1]]
    assert [(hot.key, hot.least) for hot in busy.hottest] == [("hot", 310), ("inner", 40)]
    assert busy.records == 350
    assert busy.load.records_per_s == pytest.approx(302 / 300, rel=0.05)
    assert (idle.records, idle.load) == (0, ShardLoad(0.0, 0.0)), "read to the tip: nothing is written to it"
    listed = world.listing(
        loads={shard_id: each.load for shard_id, each in found.items()}, source="a sample", samples=found
    )
    assert listed.hot_keys(1) == [(ids[0], busy.hottest[0], 310 / 350)]
    assert f"the hottest is {ids[0]} with 0.10 % of its limit" in summary(listed)[2]


def test_a_sample_that_is_cut_off_is_measured_over_the_time_it_covers() -> None:
    world = World(1)
    for _ in range(10):
        entries = [{"Data": b"x", "PartitionKey": f"{n}"} for n in range(500)]
        world.client.put_records(StreamName=STREAM, Records=entries)
        world.sleep(30)
    [only] = sampled(
        world.client, STREAM, ["shardId-000000000000"], clock=world.outside.clock, sleep=world.sleep
    ).values()
    assert only.records == 2_000
    assert only.load.records_per_s == pytest.approx(2_000 / 90, rel=0.05), "not 2,000 of all 300 s"


def test_loads_of_cloudwatch_are_means_and_missing_ones_unknown() -> None:
    asked: list[int] = []

    class CloudWatch:
        def get_paginator(self, name: str) -> CloudWatch:
            assert name == "get_metric_data"
            return self

        def paginate(self, **request: Any) -> list[dict[str, Any]]:
            asked.append(len(request["MetricDataQueries"]))
            results = []
            for query in request["MetricDataQueries"]:
                metric = query["MetricStat"]["Metric"]
                shard = metric["Dimensions"][1]["Value"]
                values = [] if shard == "s7" else [600.0, 900.0] if metric["MetricName"] == "IncomingRecords" else [3e6]
                results.append({"Id": query["Id"], "Values": values})
            return [{"MetricDataResults": results[:3]}, {"MetricDataResults": results[3:]}]

    ids = [f"s{n}" for n in range(600)]
    found = shard_metrics.written(CloudWatch(), STREAM, ids, 1_000.0, 1_300.0)
    assert asked == [500, 500, 200]
    assert found["s0"] == found["s599"] == ShardLoad(5.0, 10_000.0)
    assert "s7" not in found
    assert of_limit(found.get("s7")) is None


SCREEN = """\

 shard                                        state      share   records/s     KiB/s   of its limit
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 shardId-000000000000                         closed   50.00 %
 └ shardId-000000000004 (also of              open     75.00 %       900.0     120.0        90.00 %
 shardId-000000000002)
 shardId-000000000001                         closed   50.00 %
 └ shardId-000000000002                       closed   25.00 %
 └ shardId-000000000003                       open     25.00 %     unknown   unknown        unknown

"""


def test_the_list_on_a_screen_of_100_columns() -> None:
    world = World(2)
    shards.split(world.client, STREAM, "shardId-000000000001", 3 << 126)
    until_active(world.outside, STREAM)
    shards.merge(world.client, STREAM, "shardId-000000000000", "shardId-000000000002")
    until_active(world.outside, STREAM)
    found = world.listing(loads={"shardId-000000000004": ShardLoad(900.0, 120 * 1024)})
    text = io.StringIO()
    drawing = output.drawn(COLUMNS, rows(found), 100, right=COLUMNS[2:])
    Console(file=text, width=100, color_system=None).print(drawing)
    screen = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
    assert screen + "\n" == SCREEN


def test_readers_are_shown_with_how_they_are_known() -> None:
    world = World(1)
    read_by = (Reader("a", "bound to this stream", 1), Reader("b", "registered for fan-out"))
    assert summary(world.listing(readers=read_by))[3:] == [
        "read by: a (bound to this stream; 1 of 1 open shard owned)",
        "read by: b (registered for fan-out; leases unknown)",
    ]

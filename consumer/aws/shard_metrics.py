"""CloudWatch metrics of single shards, if shard-level metrics are enabled, and of the stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

QUERIES = 500
"""Maximum number of metrics in one call of GetMetricData."""

PERIOD_S = 60

POINTS = 1_440
"""Maximum number of data points in one answer of GetMetricStatistics."""

RECORDS, BYTES = "IncomingRecords", "IncomingBytes"


class Arrivals(NamedTuple):
    """The records and bytes that were put on a stream in a span."""

    records: float
    bytes: float


class ShardLoad(NamedTuple):
    """The write load of a shard."""

    records_per_s: float
    bytes_per_s: float


def written(
    cloudwatch: Any, stream: str, shard_ids: Sequence[str], since_s: float, until_s: float
) -> dict[str, ShardLoad]:
    """Means between two times, by shard. A shard without data points is left out: its load is unknown.

    Failures of AWS come as botocore's errors.
    """
    asked = [(shard_id, name) for shard_id in shard_ids for name in (RECORDS, BYTES)]
    sums: dict[tuple[str, str], float] = {}
    for some in _batches(asked, QUERIES):
        queries = [_query(f"m{place}", stream, *each) for place, each in enumerate(some)]
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries,
            StartTime=datetime.fromtimestamp(since_s, UTC),
            EndTime=datetime.fromtimestamp(until_s, UTC),
        )
        for result in (result for page in pages for result in page["MetricDataResults"]):
            if result["Values"]:
                which = some[int(result["Id"][1:])]
                sums[which] = sums.get(which, 0) + sum(result["Values"])
    span_s = max(PERIOD_S, until_s - since_s)
    return {
        shard_id: ShardLoad(sums[shard_id, RECORDS] / span_s, sums.get((shard_id, BYTES), 0) / span_s)
        for shard_id in shard_ids
        if (shard_id, RECORDS) in sums
    }


def _query(name: str, stream: str, shard_id: str, metric: str) -> dict[str, Any]:
    dimensions = [{"Name": "StreamName", "Value": stream}, {"Name": "ShardId", "Value": shard_id}]
    stat = {
        "Metric": {"Namespace": "AWS/Kinesis", "MetricName": metric, "Dimensions": dimensions},
        "Period": PERIOD_S,
        "Stat": "Sum",
    }
    return {"Id": name, "MetricStat": stat}


def _batches(asked: Iterable[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    left = iter(asked)
    while some := list(islice(left, size)):
        yield some


def arrival_rate(cloudwatch: Any, stream: str, now_s: float, minutes: int = 5) -> float | None:
    """Records a second that were put on the stream in the last whole minutes; None where CloudWatch knows of none.

    The last minute is left out, since its metrics are still coming. Failures of AWS come as botocore's errors.
    """
    until_s = now_s // PERIOD_S * PERIOD_S - PERIOD_S
    answer = cloudwatch.get_metric_statistics(
        Namespace="AWS/Kinesis",
        MetricName=RECORDS,
        Dimensions=[{"Name": "StreamName", "Value": stream}],
        StartTime=datetime.fromtimestamp(until_s - minutes * PERIOD_S, UTC),
        EndTime=datetime.fromtimestamp(until_s, UTC),
        Period=PERIOD_S,
        Statistics=["Sum"],
    )
    sums = [float(point["Sum"]) for point in answer["Datapoints"]]
    return sum(sums) / (minutes * PERIOD_S) if sums else None


def arrived(cloudwatch: Any, stream: str, since_s: float, until_s: float) -> Arrivals | None:
    """Records and bytes that were put on the stream in the whole minutes around a span; None where nothing is known.

    Failures of AWS come as botocore's errors.
    """
    begin_s = since_s // PERIOD_S * PERIOD_S
    minutes = max(1, -(-int(until_s - begin_s) // PERIOD_S))
    period_s = PERIOD_S * -(-minutes // POINTS)
    totals = []
    for metric in (RECORDS, BYTES):
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/Kinesis",
            MetricName=metric,
            Dimensions=[{"Name": "StreamName", "Value": stream}],
            StartTime=datetime.fromtimestamp(begin_s, UTC),
            EndTime=datetime.fromtimestamp(begin_s + minutes * PERIOD_S, UTC),
            Period=period_s,
            Statistics=["Sum"],
        )
        totals.append([float(point["Sum"]) for point in answer["Datapoints"]])
    return Arrivals(*map(sum, totals)) if totals[0] else None

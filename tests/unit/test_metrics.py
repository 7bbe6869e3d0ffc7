"""Metrics: what is counted, and that there are few labels."""

from __future__ import annotations

import json

from pipeline.events import DeadLettered, OutOfMemory, Predicted, ReplicaReplaced, Retried
from pipeline.metrics import Metrics
from pipeline.metrics.in_flight import Load


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"penstock_{name}", labels)


def busy() -> Metrics:
    metrics = Metrics()
    for shard in ("a", "b"):
        metrics.records.received(shard, 10)
        metrics.records.lag(shard, 500 if shard == "a" else 20)
    metrics.batches.queued(7)
    metrics.batches.returned(4, 0.2)
    metrics.batches.returned(8, 0.4)
    metrics.records.settled("a", enriched=9, dead=1)
    metrics.records.settled("b", enriched=2, dead=0)
    metrics.records.durable("a", 10)
    metrics.records.checkpointed("a", 8)
    metrics.records.checkpoint_failed("b")
    for event in (Retried(), Retried(), Retried(), ReplicaReplaced("killed by signal 9")):
        metrics.model.note(event)
    metrics.in_flight.watch(lambda: {"b": Load(8, 800, 9, 5_000), "c": Load(1, 100, 1, 4_000)})
    return metrics


def test_a_snapshot_has_totals_and_current_values() -> None:
    assert busy().snapshot() == {
        "records_in": 20,
        "enriched": 11,
        "dead_letters": 1,
        "settled": 12,
        "durable": 10,
        "checkpointed": 8,
        "checkpoints_refused": 1,
        "batches": 2,
        "mean_batch": 6.0,
        "queue": 7,
        "in_flight": 9,
        "in_flight_bytes": 900,
        "not_durable": 10,
        "shards": ["a", "b", "c"],
        "lag_s": 0.5,
        "retries": 3,
        "replica_restarts": 1,
        "batch_size_target": 0,
        "capacity": {},
        "outages": [],
    }


def test_a_fresh_snapshot_is_all_zero_and_json() -> None:
    snapshot = Metrics().snapshot()
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert not any(snapshot.values())


def test_prometheus_sees_the_same() -> None:
    metrics = busy()
    assert value(metrics, "records_received_total", shard="a") == 10
    assert value(metrics, "records_enriched_total", shard="b") == 2
    assert value(metrics, "records_dead_total", shard="a") == 1
    assert value(metrics, "records_checkpointed_total", shard="a") == 8
    assert value(metrics, "checkpoints_total", shard="a") == 1
    assert value(metrics, "checkpoint_failures_total", shard="b") == 1
    assert value(metrics, "lag_seconds", shard="a") == 0.5
    assert value(metrics, "queue_records") == 7
    assert value(metrics, "in_flight_records", shard="b") == 8
    assert value(metrics, "in_flight_bytes", shard="c") == 100
    assert value(metrics, "batch_records_sum") == 12
    assert value(metrics, "batch_seconds_count") == 2
    assert b"penstock_replica_restarts_total 1.0" in metrics.exposition()


def test_a_lost_shard_takes_its_labels_along_and_leaves_the_totals() -> None:
    metrics = busy()
    before = metrics.snapshot()
    metrics.records.forget("a")
    metrics.records.forget("never seen")
    assert b'shard="a"' not in metrics.exposition()
    after = metrics.snapshot()
    assert after["shards"] == ["b", "c"]
    assert after["lag_s"] == 0.02
    assert {**after, "shards": before["shards"], "lag_s": 0.5} == before


def test_a_shard_that_comes_back_counts_on() -> None:
    metrics = busy()
    metrics.records.forget("a")
    metrics.records.received("a", 1)
    assert value(metrics, "records_received_total", shard="a") == 1
    assert metrics.snapshot()["records_in"] == 21


def test_reasons_of_dead_letters_are_a_closed_set() -> None:
    metrics = Metrics()
    metrics.dead_letters.note("timeout", 2)
    metrics.dead_letters.note("ValueError: the payload said 'secret'")
    assert value(metrics, "dead_letters_total", reason="timeout") == 2
    assert value(metrics, "dead_letters_total", reason="other") == 1
    assert b"secret" not in metrics.exposition()


def test_a_model_host_reports_its_work() -> None:
    metrics = Metrics()
    told = (Retried(), Retried(), ReplicaReplaced("killed by signal 9"), DeadLettered("died", 2), OutOfMemory(64))
    for event in (*told, Predicted(records=8, seconds=0.5)):
        metrics.model.note(event)
    assert metrics.snapshot()["retries"] == 2
    assert metrics.snapshot()["replica_restarts"] == 1
    assert value(metrics, "dead_letters_total", reason="died") == 2
    assert value(metrics, "out_of_memory_total") == 1
    assert value(metrics, "predict_seconds_sum") == 0.5


def test_sinks_count_their_writes() -> None:
    metrics = Metrics()
    metrics.sinks.put("parquet", 1_000)
    metrics.sinks.put("parquet", 24)
    metrics.sinks.retried("kinesis")
    assert value(metrics, "sink_puts_total", sink="parquet") == 2
    assert value(metrics, "sink_bytes_total", sink="parquet") == 1_024
    assert value(metrics, "sink_retries_total", sink="kinesis") == 1


def test_two_tasks_in_one_process_do_not_share_counters() -> None:
    busy()
    assert Metrics().snapshot()["records_in"] == 0


def test_a_trouble_is_a_gauge_while_it_lasts() -> None:
    metrics = Metrics()
    part = metrics.outages.part("parquet:s3://bucket/table")
    assert value(metrics, "outage_seconds", part="parquet:s3://bucket/table") is None
    part.failed("503 SlowDown")
    lasted_s = value(metrics, "outage_seconds", part="parquet:s3://bucket/table")
    assert lasted_s is not None and 0 <= lasted_s < 5
    [outage] = metrics.snapshot()["outages"]
    assert (outage["kind"], outage["reason"]) == ("other", "503 SlowDown")
    part.worked()
    assert value(metrics, "outage_seconds", part="parquet:s3://bucket/table") is None

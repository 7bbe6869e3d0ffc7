"""``penstock shards`` on the local AWS."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumer.admin.shards.keyspace import open_pieces, range_of
from consumer.aws import shards, stream_reader
from consumer.cli import main
from consumer.cli.shards import change as shards_change
from consumer.leases import binding, leases, tables
from consumer.leases.binding import bind
from consumer.local.process import LocalAWS
from consumer.poison.doubt import Skip
from consumer.poison.notes import LeaseNotes, Noted
from consumer.testing import aggregate
from pipeline.hash_keys import hash_of
from pipeline.record import LAST_SUB, Position
from tests.support.kcl_tables import put as put_lease
from tests.support.plain_http import HTTP
from tests.support.streams import active

STREAM, APP = "events", "app"
SHARD = "shardId-{:012d}".format


@pytest.fixture(scope="module")
def local() -> Iterator[LocalAWS]:
    with LocalAWS(limits=True) as local:
        yield local


@pytest.fixture
def aws(local: LocalAWS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAWS]:
    """A local AWS with one stream of two shards."""
    for name, value in {**local.env, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)  # undo files are written there
    monkeypatch.setattr("consumer.admin.shards.carry_out.LOOK_S", 0.05)
    make_stream(local, 2)
    yield local
    HTTP.post(f"{local.endpoint}/moto-api/reset").raise_for_status()


def make_stream(local: LocalAWS, count: int) -> None:
    kinesis = local.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=count)
    active(kinesis, STREAM)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["shards", *arguments])


def open_ids(local: LocalAWS) -> list[str]:
    return [piece.shard_id for piece in open_pieces(shards.known(local.client("kinesis"), STREAM))]


def test_a_plan_is_printed_and_nothing_is_changed(aws: LocalAWS) -> None:
    result = run("scale", "5", "--stream", STREAM)
    assert result.exit_code == 0, result.output
    fifths = [f"new {n + 1}\t20.00 %\t{n * 2**128 // 5}\t" for n in range(5)]
    froms = [f"{SHARD(0)} (50.00 %)", f"{SHARD(0)} (50.00 %)", f"{SHARD(0)} (50.00 %), {SHARD(1)} (50.00 %)"]
    froms += [f"{SHARD(1)} (50.00 %)"] * 2
    unknown = "how many of the 10 changes of the count in 24 hours are left is unknown: CloudTrail cannot be read, and "
    unknown += "this machine has made no such call"
    uneven = "a count that neither doubles nor halves the present one creates temporary shards; they count against the "
    uneven += "account's quota, and the call takes longer"
    printed = result.stdout.splitlines()
    assert re.fullmatch(
        r"undo: scales back to 2 shards; its file is written first: penstock-undo-events-.*Z.json", printed[-2]
    )
    assert printed == [
        "stream events: 2 open shards now, 5 then",
        "then\tshare\tfirst hash key\tfrom",
        *(fifth + made for fifth, made in zip(fifths, froms, strict=True)),
        "call 1: UpdateShardCount to 4 (from 2)",
        "call 2: UpdateShardCount to 5 (from 4)",
        "records: none moves; they stay in the shards that they were put into",
        "time: unknown: this machine has made no such call yet; AWS says a few minutes, depending on the stream's size",
        "a day: 0.72 USD now, 1.80 USD then (prices.json of this version, 2026-11-27)",
        f"note: {unknown}",
        f"note: {uneven}",
        printed[-2],
        "nothing changed; run again with --execute to carry this out",
    ]
    assert open_ids(aws) == [SHARD(0), SHARD(1)]


def test_scale_split_and_merge_are_carried_out_and_then_have_nothing_to_do(aws: LocalAWS) -> None:
    scaled = run("scale", "5", "--stream", STREAM, "--execute", "--json")
    assert scaled.exit_code == 0, scaled.output
    said = json.loads(scaled.stdout)
    assert (said["schema"], said["executed"], said["converged"]) == ("penstock.shards.scale/1", True, None)
    assert len(open_ids(aws)) == 5
    first, second, *_ = open_ids(aws)
    assert run("merge", second, first, "--stream", STREAM, "--execute").exit_code == 0
    assert run("split", open_ids(aws)[0], "--at", "5000", "--stream", STREAM, "--execute").exit_code == 0
    assert range_of(shards.known(aws.client("kinesis"), STREAM)[open_ids(aws)[1]]).first == 5000
    assert run("scale", "5", "--stream", STREAM, "--execute").exit_code == 3, "five, but of different sizes"
    assert run("merge", first, second, "--stream", STREAM, "--execute").exit_code == 4
    assert run("scale", "4", "--stream", STREAM, "--execute").exit_code == 0
    assert run("scale", "4", "--stream", STREAM, "--execute").exit_code == 4
    assert run("scale", "5", "--stream", STREAM, "--execute").exit_code == 0
    planned = json.loads(run("scale", "10", "--stream", STREAM, "--json").stdout)
    left = "5 of 10 changes of the count in 24 hours are left afterwards (by this machine's own log, which does "
    assert planned["notes"][0] == f"{left}not have other callers)"
    assert planned["takes_s"] > 0, "by what the calls before took"


def test_a_split_is_undone_from_the_file_that_it_wrote_first(aws: LocalAWS, tmp_path: Path) -> None:
    file = str(tmp_path / "undo.json")
    split = run("split", SHARD(1), "--stream", STREAM, "--execute", "--undo", file)
    assert split.stdout.splitlines()[-1] == (
        f"done: stream events has 3 open shards; to undo it: penstock shards undo --stream events {file} --execute"
    )
    assert run("split", SHARD(0), "--stream", STREAM, "--execute", "--undo", file).exit_code == 2, "never overwritten"
    planned = run("undo", file, "--stream", STREAM)
    assert "call 1: MergeShards shardId-000000000002 with shardId-000000000003" in planned.stdout.splitlines()
    done = json.loads(run("undo", file, "--stream", STREAM, "--execute", "--json").stdout)
    assert (done["schema"], len(done["then"]), len(open_ids(aws))) == ("penstock.shards.undo/1", 2, 2)
    assert run("undo", file, "--stream", STREAM, "--execute").exit_code == 4
    assert run("undo", done["undo"], "--stream", STREAM, "--execute").exit_code == 0, "an undo can be undone"
    assert len(open_ids(aws)) == 3


@pytest.mark.parametrize("named", [True, False])
def test_an_interrupted_scale_continues_and_keeps_the_file_that_leads_back_to_the_original_shards(
    aws: LocalAWS, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    make, calls = shards.recount, list[int]()

    def interrupted(kinesis: Any, stream: str, count: int) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(count)
        make(kinesis, stream, count)

    words = ["scale", "8", "--stream", STREAM, "--execute", *(["--undo", "k1.json"] if named else [])]
    with monkeypatch.context() as patched:
        patched.setattr(shards, "recount", interrupted)
        assert run(*words).exit_code != 0
    assert (calls, len(open_ids(aws))) == ([4], 4)
    continued = run(*words)
    assert continued.exit_code == 0 and "the interrupted run wrote its file at" in continued.stdout, continued.output
    (file,) = Path().glob("*.json")
    said = json.loads(file.read_text())
    assert (said["schema"], said["done"]) == ("penstock.shards.undo-file/1", True)
    assert (len(said["before"]), len(said["after"]), len(open_ids(aws))) == (2, 8, 8)
    assert "undo: scales back to 2 shards" in continued.stdout
    other = run("scale", "16", "--stream", STREAM, "--execute", "--undo", str(file))
    assert (other.exit_code, f"{file} exists" in other.stderr) == (2, True), "of a change that is done"


def test_the_undo_of_a_scale_of_uneven_shards_says_what_it_makes(aws: LocalAWS) -> None:
    assert run("split", SHARD(0), "--at", "5000", "--stream", STREAM, "--execute").exit_code == 0
    uneven = run("scale", "3", "--stream", STREAM, "--execute")
    assert (uneven.exit_code, "but not of the same size" in uneven.stderr) == (3, True), uneven.stderr
    assert run("scale", "6", "--stream", STREAM, "--execute", "--undo", "u.json").exit_code == 0
    back = run("undo", "u.json", "--stream", STREAM)
    assert "the hash keys will not be as before: the shards will be of equal size, and were 0.0 %, 50.0 %, 50.0 %" in (
        back.stdout
    )
    assert "as the shards were" not in back.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("undo", "/nowhere"), 2, "/nowhere cannot be read"),
        (("split", "shardId-9"), 2, "has no shard shardId-9"),
        (("split", SHARD(0), "--at", "-1"), 2, "not a hash key"),
        (("split", SHARD(0), "--at", "5", "--weighted"), 2, "Give one of them"),
        (("scale", "4000"), 3, "Scale to 2,048 now"),
        (("scale", "4", "--execute", "--wait"), 2, "--wait looks at the application's leases"),
        (("split", SHARD(0), "--weighted"), 3, "too few records"),
        (("scale", "4", "--prices", "/nowhere"), 2, "--prices /nowhere"),
    ],
)
def test_refusals_exit_with_their_codes(aws: LocalAWS, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run(*arguments, "--stream", STREAM)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert result.stdout == ""


def test_an_on_demand_stream_is_refused_with_the_reason(aws: LocalAWS) -> None:
    kinesis = aws.client("kinesis")
    arn = shards.summary(kinesis, STREAM).arn
    kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    result = run("scale", "4", "--stream", STREAM, "--execute")
    assert (result.exit_code, "is in on-demand mode" in result.stderr) == (3, True), result.output


def put(local: LocalAWS, keys: list[str]) -> dict[str, int]:
    """Put a record for each key. Return how many went to each shard."""
    kinesis, went = local.client("kinesis"), dict[str, int]()
    for begin in range(0, len(keys), 500):
        entries = [{"Data": b"x", "PartitionKey": key} for key in keys[begin : begin + 500]]
        for record in kinesis.put_records(StreamName=STREAM, Records=entries)["Records"]:
            went[record["ShardId"]] = went.get(record["ShardId"], 0) + 1
    return went


def test_a_weighted_split_halves_the_hottest_shards_load(aws: LocalAWS) -> None:
    """Keys of which nearly all are in the upper sixteenth of the hot shard, so a split in the middle would not help."""
    names = (f"customer-{n}" for n in range(100_000))
    hot = [key for key in names if 2**127 - 2**123 <= hash_of(key) < 2**127][:60]
    cold = [f"other-{n}" for n in range(60)]
    skewed = [key for place, key in enumerate(hot) for _ in range(1 + 200 // (place + 10))] + cold
    before = put(aws, skewed)
    hottest = max(before, key=before.__getitem__)
    assert hottest == SHARD(0)
    result = run("split", hottest, "--weighted", "--stream", STREAM, "--execute", "--json")
    assert result.exit_code == 0, result.output
    after = put(aws, skewed)
    assert set(after) == set(open_ids(aws))
    assert max(after.values()) < 0.55 * before[hottest], (before, after)
    assert run("split", hottest, "--weighted", "--stream", STREAM, "--execute").exit_code == 4, "it is split already"


def test_one_key_that_carries_more_than_half_is_named_and_not_split(aws: LocalAWS) -> None:
    put(aws, ["hot"] * 300)
    shard = next(shard for shard in open_ids(aws) if shard in put(aws, ["hot"]))
    result = run("split", shard, "--weighted", "--stream", STREAM, "--execute")
    assert (result.exit_code, "partition key 'hot' alone carries" in result.stderr) == (3, True), result.output
    assert open_ids(aws) == [SHARD(0), SHARD(1)]


def test_the_list_shows_lineage_load_and_readers(aws: LocalAWS) -> None:
    kinesis, dynamodb = aws.client("kinesis"), aws.client("dynamodb")
    assert run("merge", SHARD(0), SHARD(1), "--stream", STREAM, "--execute").exit_code == 0
    assert run("split", SHARD(2), "--stream", STREAM, "--execute").exit_code == 0
    put(aws, ["hot"] * 30 + [f"{n}" for n in range(10)])
    tables.make_tables(dynamodb, APP)
    created_s = int(shards.summary(kinesis, STREAM).created_s)
    bind(dynamodb, kinesis, APP, STREAM, created_s, "TRIM_HORIZON", datetime.now(UTC))
    put_lease(dynamodb, SHARD(3), leaseOwner="worker")
    plain = run("list", "--stream", STREAM, "--application", "other")
    assert plain.exit_code == 0, plain.output
    assert plain.stdout.splitlines() == [
        "stream events: ACTIVE, provisioned, 2 open shards, 3 closed within 24 h",
        "hash keys: shared evenly",
        "load: unknown: shard-level metrics are not enabled on the stream; --sample reads some records of each shard",
        "read by: app (bound to this stream; 1 of 2 open shards owned)",
        "read by: other (named; leases unknown)",
        "shard\tstate\tshare\trecords/s\tKiB/s\tof its limit",
        f"{SHARD(0)}\tclosed\t50.00 %\t\t\t",
        f"└ {SHARD(2)} (also of {SHARD(1)})\tclosed\t100.00 %\t\t\t",
        f"  └ {SHARD(3)}\topen\t50.00 %\tunknown\tunknown\tunknown",
        f"  └ {SHARD(4)}\topen\t50.00 %\tunknown\tunknown\tunknown",
        f"{SHARD(1)}\tclosed\t50.00 %\t\t\t",
    ]
    sampled = run("list", "--stream", STREAM, "--sample", "--json")
    said = json.loads(sampled.stdout)
    assert (said["schema"], said["load_from"]) == ("penstock.shards.list/1", "a sample of the last 5 min")
    [hot] = [shard for shard in said["shards"] if shard["hottest_keys"] and shard["hottest_keys"][0]["key"] == "hot"]
    assert hot["hottest_keys"][0]["least"] == 30
    assert hot["records_per_s"] > 0
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)


def test_a_sample_of_a_stream_without_records_has_no_table_of_keys(aws: LocalAWS) -> None:
    lines = run("list", "--stream", STREAM, "--sample").stdout.splitlines()
    assert lines[4:6] == [
        "hottest keys: unknown, since no record arrived in the last five minutes",
        "shard\tstate\tshare\trecords/s\tKiB/s\tof its limit",
    ]


def test_a_timeout_without_waiting_is_a_mistake(aws: LocalAWS) -> None:
    for change in (("scale", "4"), ("split", SHARD(0)), ("merge", SHARD(0), SHARD(1))):
        result = run(*change, "--stream", STREAM, "--timeout", "5m")
        assert result.exit_code == 2
        assert "--timeout has an effect only with --wait" in result.stderr


def test_the_load_comes_from_cloudwatch_where_shard_metrics_are_enabled(aws: LocalAWS) -> None:
    kinesis = aws.client("kinesis")
    kinesis.enable_enhanced_monitoring(StreamName=STREAM, ShardLevelMetrics=["ALL"])
    active(kinesis, STREAM)
    went = put(aws, [f"{n}" for n in range(300)])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        said = json.loads(run("list", "--stream", STREAM, "--json").stdout)
        loads = {shard["shard_id"]: shard["records_per_s"] for shard in said["shards"]}
        if loads == {shard_id: records / 300 for shard_id, records in went.items()}:
            break
        time.sleep(0.5)
    assert said["load_from"] == "CloudWatch, last 5 min"
    assert loads == {shard_id: records / 300 for shard_id, records in went.items()}


# -- skip


@pytest.fixture
def application(aws: LocalAWS) -> Iterator[LocalAWS]:
    """An application that has read one record of the first shard's five; a worker has the lease. The third record is an
    aggregate."""
    dynamodb, kinesis = aws.client("dynamodb"), aws.client("kinesis")
    tables.make_tables(dynamodb, APP)
    created_s = int(shards.summary(kinesis, STREAM).created_s)
    bind(dynamodb, kinesis, APP, STREAM, created_s, "TRIM_HORIZON", datetime.now(UTC))
    for number in range(5):
        data = aggregate([b'{"n": 1}', b"two"], ["key"]) if number == 2 else json.dumps({"number": number}).encode()
        kinesis.put_record(StreamName=STREAM, Data=data, PartitionKey="key", ExplicitHashKey="0")
    put_lease(dynamodb, SHARD(0), checkpoint=sequences(aws)[0], leaseOwner="worker")
    put_lease(dynamodb, SHARD(1), checkpoint="SHARD_END")
    yield aws
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)


def sequences(aws: LocalAWS) -> list[str]:
    pages = stream_reader.since(aws.client("kinesis"), STREAM, SHARD(0), 0, 100)
    return [record["SequenceNumber"] for page in pages for record in page]


def skip(shard: str, *arguments: str) -> Result:
    return run("skip", shard, "--stream", STREAM, "--application", APP, *arguments)


def noted(aws: LocalAWS) -> Noted:
    found = LeaseNotes(lambda: aws.client("dynamodb"), APP).read(SHARD(0))
    assert found is not None
    return found


def test_a_skip_shows_the_record_and_notes_it_on_the_lease(application: LocalAWS) -> None:
    third = sequences(application)[3]
    planned = skip(SHARD(0), "--past", third, "--why", "ticket 7")
    assert planned.exit_code == 0, planned.output
    lines = planned.stdout.splitlines()
    assert lines[0] == f"record: {third}, 13 bytes"
    assert '"partition_key":"key"' in lines[1] and lines[1].endswith('"data":{"number": 3}}')
    first = sequences(application)[0]
    back = f"penstock shards skip --application {APP} --stream {STREAM}"
    assert lines[2:] == [
        f"checkpoint now: {first}/1; 2 records between it and this one: processed as usual",
        f"call 1: UpdateItem: the lease of {SHARD(0)}, taken from worker, gets a note to skip the record",
        "a day: unchanged",
        f"undo: only until a worker has carried it out: {back} {SHARD(0)} --past {third} --withdraw --execute",
        "then, by the next worker that has the shard: a dead letter of the kind skipped, and the checkpoint",
        "nothing changed; run again with --execute to carry this out",
    ]
    assert (noted(application).text, noted(application).lease.owner) == ("", "worker")
    assert skip(SHARD(0), "--past", third, "--why", "ticket 7", "--execute").exit_code == 0
    assert noted(application).doubt.skips == (Skip(Position(int(third), LAST_SUB), "ticket 7"),)
    assert noted(application).lease.owner == ""
    assert skip(SHARD(0), "--past", third, "--execute").exit_code == 4, "it is noted already"
    listed = CliRunner().invoke(main, ["leases", "list", "--application", APP, "--stream", STREAM])
    assert f"skip of record {third} pending" in listed.stdout
    status = CliRunner().invoke(main, ["status", "--application", APP, "--stream", STREAM, "--json"])
    assert {each["shard_id"]: each["skips"] for each in json.loads(status.stdout)["shards"]}[SHARD(0)] == [third]
    withdrawn = skip(SHARD(0), "--withdraw")
    assert f"the skip of record {third} (ticket 7) is withdrawn" in withdrawn.stdout and noted(application).text
    assert skip(SHARD(0), "--past", third, "--withdraw", "--execute").exit_code == 0
    assert noted(application).text == ""
    assert skip(SHARD(0), "--withdraw", "--execute").exit_code == 4
    assert skip(SHARD(0)).exit_code == 2


def test_of_an_aggregate_one_user_record_or_all_is_shown_and_passed_over(application: LocalAWS) -> None:
    third = sequences(application)[2]
    whole = json.loads(skip(SHARD(0), "--past", third, "--json").stdout)
    assert (whole["schema"], whole["user_records"]) == ("penstock.shards.skip/1", 2)
    assert [record.get("data", record.get("data_text")) for record in whole["records"]] == [{"n": 1}, "two"]
    second = json.loads(skip(SHARD(0), "--past", third, "--sub", "1", "--execute", "--json").stdout)
    assert [record["data_text"] for record in second["records"]] == ["two"]
    assert noted(application).doubt.skips == (Skip(Position(int(third), 1), "no reason given"),)
    assert skip(SHARD(0), "--past", third, "--sub", "2").exit_code == 2


def test_a_record_that_cannot_be_skipped_is_refused(application: LocalAWS) -> None:
    numbers, dynamodb = sequences(application), application.client("dynamodb")
    for sequence, code, said in (
        ("x", 2, "not a sequence number"),
        (str(int(numbers[4]) + 1), 2, "has no record"),
        (str(int(numbers[1]) + 1), 2, "has no record"),
        ("9" * 60, 2, "has no record"),
        ("1", 2, "has no record"),
        (str(int(numbers[0]) - 1), 2, "has no record"),
        (numbers[0], 4, "past that record already"),
    ):
        result = skip(SHARD(0), "--past", sequence, "--execute")
        assert (result.exit_code, said in result.stderr) == (code, True), result.output
    dynamodb.delete_item(TableName=f"{APP}-CoordinatorState", Key={"key": {"S": binding.KEY}})
    result = skip(SHARD(0), "--past", numbers[4], "--execute")
    assert (result.exit_code, "no Penstock worker" in result.stderr) == (3, True), result.output


# -- --wait


@contextlib.contextmanager
def kcl(local: LocalAWS) -> Iterator[None]:
    """Changes leases as KCL does: renews them, ends those of closed shards, and then creates those of their
    children."""
    dynamodb, kinesis, over = local.client("dynamodb"), local.client("kinesis"), threading.Event()
    tables.make_tables(dynamodb, APP)

    def work() -> None:
        closed = 0
        while not over.wait(0.1):
            known = shards.known(kinesis, STREAM)
            found = {lease.shard_id: lease for lease in leases.read(dynamodb, APP)}
            closed += any(not shard.open for shard in known.values())
            for shard in known.values():
                parents = [found.get(parent) for parent in shard.parents]
                if shard.shard_id in found and not shard.open and closed > 8:
                    put_lease(dynamodb, shard.shard_id, checkpoint="SHARD_END")
                elif shard.shard_id in found or all(parent is not None and parent.ended for parent in parents):
                    counter = found[shard.shard_id].counter + 1 if shard.shard_id in found else 1
                    ended = shard.shard_id in found and found[shard.shard_id].ended
                    if not ended:
                        put_lease(dynamodb, shard.shard_id, leaseOwner="worker")
                        dynamodb.update_item(
                            TableName=APP,
                            Key={"leaseKey": {"S": shard.shard_id}},
                            UpdateExpression="SET leaseCounter = :counter",
                            ExpressionAttributeValues={":counter": {"N": str(counter)}},
                        )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for name in dynamodb.list_tables()["TableNames"]:
            dynamodb.delete_table(TableName=name)


def test_wait_ends_when_the_application_has_followed(aws: LocalAWS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_change, "LOOK_S", 0.05)
    arguments = ("scale", "4", "--stream", STREAM, "--application", APP, "--execute", "--wait")
    with kcl(aws):
        result = run(*arguments, "--json")
        assert (result.exit_code, json.loads(result.stdout)["converged"]) == (0, True), result.output
        assert f"{SHARD(0)}, {SHARD(1)} closed, and not read to the end; 4 shards without a lease" in result.stderr
        assert result.stderr.endswith("application app has followed: every lease is owned and moving\n")
        found = {lease.shard_id: lease for lease in leases.read(aws.client("dynamodb"), APP)}
        assert found[SHARD(0)].ended and found[SHARD(1)].ended and len(found) == 6
        again = run(*arguments, "--json")
        assert again.exit_code == 0, "nothing is left to call, and it waits all the same"
        assert (json.loads(again.stdout)["calls"], json.loads(again.stdout)["converged"]) == ([], True)


def test_an_application_that_does_not_follow_is_reported_with_the_remaining_shards(
    aws: LocalAWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_change, "LOOK_S", 0.05)
    arguments = (
        "split",
        SHARD(0),
        "--stream",
        STREAM,
        "--application",
        APP,
        "--execute",
        "--wait",
        "--timeout",
        "0.2s",
    )
    assert run(*arguments).exit_code == 2, "there is no lease table"
    dynamodb = aws.client("dynamodb")
    tables.make_tables(dynamodb, APP)
    put_lease(dynamodb, SHARD(0), leaseOwner="worker")
    result = run(*arguments)
    assert result.exit_code == 1
    assert (
        f"has not followed yet: {SHARD(0)} closed, and not read to the end; 3 shards without a lease" in result.stderr
    )
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)

"""``penstock put`` and ``penstock tail``: records come out as they were put."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumer.aws.clients import Aws
from consumer.cli import main
from tests.support.clocked_kinesis import ClockedKinesis

STREAM = "events"
LINES = [b'{"user": "u%d", "n":  %d}' % (number % 3, number) for number in range(30)]
EVER = ("--from", "2020-01-01T00:00:00Z", "--max")


@pytest.fixture
def kinesis(monkeypatch: pytest.MonkeyPatch) -> Any:
    clocked = ClockedKinesis()
    clocked.client.create_stream(StreamName=STREAM, ShardCount=2)
    clocked.now_ms += 1000
    monkeypatch.setattr(Aws, "_client", lambda aws, service: clocked.client)
    return clocked


def penstock(*words: str, data: bytes = b"") -> Result:
    return CliRunner().invoke(main, list(words), input=data, prog_name="penstock")


def put(*words: str, lines: list[bytes] = LINES) -> Result:
    return penstock("put", "--stream", STREAM, *words, data=b"\n".join(lines) + b"\n")


def tail(*words: str) -> list[dict[str, Any]]:
    result = penstock("tail", "--stream", STREAM, *words)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("aggregate", [(), ("--aggregate",)])
def test_records_come_out_as_they_were_put(kinesis: Any, aggregate: tuple[str, ...]) -> None:
    result = put("--key", "user", *aggregate)

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("30 records on ")
    found = tail(*EVER, "30")
    assert sorted(each["data"]["n"] for each in found) == list(range(30))
    assert {each["partition_key"] for each in found} == {"u0", "u1", "u2"}
    for key in ("u0", "u1", "u2"):
        numbers = [each["data"]["n"] for each in found if each["partition_key"] == key]
        assert numbers == sorted(numbers)


def test_the_output_of_tail_can_be_put_again_byte_for_byte(kinesis: Any) -> None:
    put("--key", "user", lines=[*LINES, b'{"user": "u1", "t": 1.0e5}'])
    printed = penstock("tail", "--stream", STREAM, *EVER, "31").stdout_bytes
    kinesis.client.create_stream(StreamName="copy", ShardCount=1)
    kinesis.now_ms += 1000

    again = penstock("put", "--stream", "copy", "--records", data=printed)

    assert again.exit_code == 0, again.output
    client = kinesis.client
    at = client.get_shard_iterator(StreamName="copy", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
    records = client.get_records(ShardIterator=at["ShardIterator"])["Records"]
    assert sorted(record["Data"] for record in records) == sorted([*LINES, b'{"user": "u1", "t": 1.0e5}'])
    assert {record["PartitionKey"] for record in records} == {"u0", "u1", "u2"}


def test_where_selects_by_the_fields_of_a_line(kinesis: Any) -> None:
    put("--key", "user")
    found = tail(*EVER, "2", "--where", "partition_key == 'u1' && data.n > `10`")
    assert len(found) == 2
    assert all(each["partition_key"] == "u1" and each["data"]["n"] > 10 for each in found)


def test_json_lines_have_the_schema(kinesis: Any) -> None:
    put()
    assert {each["schema"] for each in tail(*EVER, "3", "--json")} == {"penstock.tail/1"}
    said = json.loads(put("--json").stdout)
    assert (said["schema"], said["records"], said["unfit"]) == ("penstock.put/1", 30, 0)


def test_a_record_that_no_stream_takes_is_named_and_the_others_are_put(kinesis: Any) -> None:
    result = put(lines=[b"1", b"x" * 1024 * 1024, b"2"])

    assert result.exit_code == 1
    assert "not put: <stdin> line 2: data and key have 1,048,6" in result.stderr
    assert result.stdout.startswith("2 records on ")


@pytest.mark.parametrize(
    ("words", "line", "said"),
    [
        (["--key", ""], b"{}", "--key is empty"),
        (["--key", "user"], b"{", "<stdin> line 1: not JSON"),
        (["--key", "user"], b"{}", "<stdin> line 1: no field user"),
        (["--key", "user"], b'{"user": []}', "user is not a text or a number"),
        (["--records"], b"{}", "the line is not a record"),
        (["--records", "--key", "user"], b"{}", "Leave out --key"),
    ],
)
def test_a_line_of_another_form_is_the_users_to_correct(kinesis: Any, words: list[str], line: bytes, said: str) -> None:
    result = put(*words, lines=[line])
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "data.["], "Write JMESPath"),
        (["--latest", "--from", "1h ago"], "exclude each other"),
        (["--from", "1h ago", "--to", "2h ago"], "--from is not before --to"),
        (["--shard", "shardId-9", "--from", "1h ago"], "has no shard shardId-9 now. `penstock shards list` names its"),
    ],
)
def test_mistakes_of_tail(kinesis: Any, words: list[str], said: str) -> None:
    result = penstock("tail", "--stream", STREAM, *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("aggregate", [(), ("--aggregate",)])
def test_a_put_that_a_bad_line_stopped_has_put_the_lines_before_it_and_continues_there(
    kinesis: Any, monkeypatch: pytest.MonkeyPatch, aggregate: tuple[str, ...]
) -> None:
    monkeypatch.setattr("consumer.aws.put.WAITING", 2)
    lines = [b'{"user":"a","n":%d}' % number for number in range(20)] + [b"{", b'{"user":"b","n":20}']
    result = put("--key", "user", *aggregate, lines=lines)
    assert (result.exit_code, result.stdout.startswith("20 records on ")) == (2, True), result.output
    assert "<stdin> line 21: not JSON. " in result.stderr
    assert "all lines before it are put. Correct the line, and continue with --from-line 21" in result.stderr
    lines[20] = b'{"user":"a","n":21}'
    assert put("--key", "user", *aggregate, "--from-line", "21", lines=lines).exit_code == 0
    assert sorted(each["data"]["n"] for each in tail(*EVER, "22")) == list(range(22))


def test_without_a_line_there_is_nothing_to_do(kinesis: Any) -> None:
    for words in ((), ("--from-line", "31")):
        result = put(*words, lines=LINES if words else [])
        assert (result.exit_code, result.stderr) == (4, "penstock: there is no line to put\n"), result.output


def test_tail_follows_a_shard_through_a_split(kinesis: Any) -> None:
    client, stream = kinesis.client, "reshards"
    client.create_stream(StreamName=stream, ShardCount=1)
    kinesis.now_ms += 1000  # it is ACTIVE
    (shard,) = client.list_shards(StreamName=stream)["Shards"]

    def put(numbers: range) -> None:
        for number in numbers:
            client.put_record(StreamName=stream, PartitionKey=f"{number}", Data=json.dumps({"n": number}).encode())

    put(range(4))
    client.split_shard(StreamName=stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(2**127))
    kinesis.now_ms += 1000  # it is ACTIVE
    put(range(4, 12))
    words = ["tail", "--stream", stream, "--from", "1h ago", "--shard", shard["ShardId"], "--max", "12"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(line["data"]["n"] for line in found) == list(range(12))
    assert [line["data"]["n"] for line in found[:4]] == [0, 1, 2, 3], "the parent's first"
    assert len({line["shard_id"] for line in found}) == 3


def test_a_file_is_read(kinesis: Any, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(LINES))
    assert penstock("put", str(path), "--stream", STREAM).stdout.startswith("30 records")

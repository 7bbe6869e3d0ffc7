"""A stream with a split on the local AWS, and an application that has read all of it, without KCL."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.leases import leases
from consumer.leases.binding import bind
from consumer.leases.seed import seed
from consumer.leases.tables import make_tables
from consumer.local.process import LocalAWS
from tests.support.streams import active

STREAM, APP = "events", "app"
CONFIG = """
[stream]
name = "{stream}"
application = "{application}"
[model]
factory = "a:B"
version = "1"
[[sink]]
{sink}
[dead_letter]
url = "{folder}/dead"
[kcl]
failover_ms = 1000
"""


class World:
    """A stream with a split, and an application that has read all of it."""

    def __init__(self, aws: LocalAWS) -> None:
        self.kinesis, self.dynamodb = aws.client("kinesis"), aws.client("dynamodb")
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        active(self.kinesis, STREAM)
        self.before = [self.put(f"before {number}") for number in range(3)]
        self.moment = self.pause()
        self.within = [self.put(f"within {number}") for number in range(3)]
        self.kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
        active(self.kinesis, STREAM)
        self.next_second()
        self.after = [self.put(f"after {number}") for number in range(6)]

    def put(self, text: str) -> tuple[str, int]:
        answer = self.kinesis.put_record(StreamName=STREAM, PartitionKey=text, Data=json.dumps(text).encode())
        return answer["ShardId"], int(answer["SequenceNumber"])

    @staticmethod
    def next_second() -> None:
        """Wait until a whole second has passed since the split, because an application starts at whole seconds."""
        second = int(time.time())
        while int(time.time()) == second:
            time.sleep(0.02)  # the clock is what is waited for

    @staticmethod
    def pause() -> datetime:
        """A time at which no record arrived in the same millisecond."""
        time.sleep(0.02)  # the clock is what is waited for
        now = datetime.now(UTC)
        time.sleep(0.02)  # as above
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def begin(self) -> None:
        """The application's leases at the end of the stream. The parent's lease is deleted, as KCL does it."""
        for name in self.dynamodb.list_tables()["TableNames"]:
            self.dynamodb.delete_table(TableName=name)
        make_tables(self.dynamodb, APP)
        summary = self.kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
        created_s = int(summary["StreamCreationTimestamp"].timestamp())
        bind(self.dynamodb, self.kinesis, APP, STREAM, created_s, "TRIM_HORIZON", datetime.now(UTC))
        start = datetime.now(UTC).isoformat()
        seed(self.dynamodb, self.kinesis, APP, STREAM, start)
        for shard_id, sequence in dict(self.after).items():
            self.dynamodb.update_item(
                TableName=APP,
                Key={"leaseKey": {"S": shard_id}},
                UpdateExpression="SET checkpoint = :at",
                ExpressionAttributeValues={":at": {"S": str(sequence)}},
            )

    def leases(self) -> dict[str, Any]:
        found = leases.read(self.dynamodb, APP)
        return {lease.shard_id[-1]: lease.checkpoint or lease.sentinel for lease in found}


def config(folder: Path, sink: str = 'type = "kinesis"\nstream = "rows"', application: str = APP) -> str:
    path = folder / "penstock.toml"
    path.write_text(CONFIG.format(stream=STREAM, application=application, sink=sink, folder=folder))
    return str(path)


def replay(*words: str) -> Result:
    return CliRunner().invoke(main, ["replay", *words])

"""``penstock tail``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from consumer.cli.options import TIME, in_order, json_option, stream_options
from consumer.cli.selection import WHERE

if TYPE_CHECKING:
    from datetime import datetime

    from consumer.admin.application import Target
    from consumer.aws.record_lines import StreamRecord
    from consumer.cli.selection import Selects


@click.command()
@stream_options
@click.option("--from", "start", type=TIME, help="Begin with the records that arrived at this time.")
@click.option("--latest", is_flag=True, help="Begin with the records that arrive from now on. The default.")
@click.option("--to", "until", type=TIME, help="End before the records that arrived at this time. Without it, go on.")
@click.option("--shard", "shard_id", metavar="SHARD", help="Only this shard and its descendants.")
@click.option("--where", type=WHERE, help="Only records for which this JMESPath expression is true.")
@click.option("--max", "most", type=click.IntRange(1), help="End after this number of records.")
@json_option
def tail(
    target: Target,
    start: datetime | None,
    latest: bool,
    until: datetime | None,
    shard_id: str | None,
    where: Selects | None,
    most: int | None,
    as_json: bool,
) -> None:
    """Print the records of a stream as they arrive, one JSON object per line.

    Each line has shard_id, sequence_number, sub_sequence_number, partition_key, arrived_at, and the payload: data if it
    is JSON, data_text if it is other text, data_base64 if it is neither. KPL aggregates are taken apart. Follows
    the stream through splits and merges. --where sees the same fields. `penstock put --records` puts such lines on a
    stream again. --json adds the schema to each line.

    Reads each shard once a second, and less often while it is throttled: a shard allows five reads a second for all of
    its readers together, and the application takes four.

    \b
    Examples:
      penstock tail --stream events --from "1h ago" --to "1s ago"
      penstock tail --stream events --from "1h ago" --where "data.user == 'u1'" --max 3
    """
    from botocore.exceptions import ClientError

    from consumer.aws.clients import Aws
    from consumer.aws.follow import Follower
    from consumer.aws.shards import known
    from pipeline.errors import UserError

    if latest and start is not None:
        raise UserError("--latest and --from exclude each other. Leave one out")
    in_order(start, until)
    aws = Aws()
    aws.stream_created_s(target.stream)
    if shard_id is not None and shard_id not in aws.ask(
        f"stream {target.stream}", lambda: known(aws.client("kinesis"), target.stream)
    ):
        raise UserError(f"stream {target.stream} has no shard {shard_id} now. `penstock shards list` names its shards")
    follower = Follower(aws.client("kinesis"), target.stream, start=start, until=until, shard_id=shard_id)
    try:
        _print(_selected(follower.records(), where), most, as_json)
    except ClientError as error:
        raise UserError(f"stream {target.stream}: {error.response['Error'].get('Message', error)}") from None


def _selected(records: Iterator[StreamRecord], where: Selects | None) -> Iterator[StreamRecord]:
    from consumer.aws.record_lines import fields_of

    for record in records:
        if where is None or where(fields_of(record)):
            yield record


def _print(records: Iterator[StreamRecord], most: int | None, as_json: bool) -> None:
    import itertools
    import sys

    from consumer.aws.record_lines import line_of

    schema = b'{"schema":"penstock.tail/1",' if as_json else b"{"
    out = sys.stdout.buffer
    for record in itertools.islice(records, most):
        out.write(schema + line_of(record)[1:] + b"\n")
        out.flush()

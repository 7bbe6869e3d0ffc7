"""``penstock shards``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import DURATION, Group, application_options, execute_option, json_option, stream_options

if TYPE_CHECKING:
    from consumer.admin.application import Target
    from consumer.cli.options import Command


@click.group(cls=Group)
def shards() -> None:
    """List, scale, split and merge a stream's shards, undo that, and move past a record."""


@shards.command("list")
@click.option(
    "--sample",
    is_flag=True,
    help="Read up to 2,000 records of the last five minutes from each open shard, for its hottest keys, and for its "
    "load where CloudWatch does not have it. Takes one of a shard's five reads a second.",
)
@click.option("--all", "everything", is_flag=True, help="On a terminal: show every shard, not the first 40.")
@json_option
@stream_options
def list_(target: Target, sample: bool, everything: bool, as_json: bool) -> None:
    """List a stream's shards with their lineage, load and readers.

    A summary comes first, then each shard below its parent. The load is what producers write. It comes from CloudWatch
    if the stream's shard-level metrics are enabled, otherwise from --sample; without either it is unknown. A shard
    takes 1,000 records and 1 MiB a second.

    Kinesis does not know who polls a stream. The readers that are shown are those that --application names, those
    whose lease table in this account a Penstock worker has bound to the stream, and the consumers that are registered
    for enhanced fan-out.

    \b
    Examples:
      penstock shards list --stream events
      penstock shards list --stream events --sample --json
    """
    from consumer.cli.shards.listing import list_shards

    list_shards(target, sample=sample, everything=everything, as_json=as_json)


@shards.command()
@click.argument("shard")
@click.option("--past", "sequence", metavar="SEQUENCE", help="The record's sequence number.")
@click.option("--sub", type=click.IntRange(min=0), help="Only this user record of an aggregate. Default: all of it.")
@click.option(
    "--why", default="no reason given", show_default=True, metavar="TEXT", help="The reason; the dead letter has it."
)
@click.option(
    "--withdraw",
    is_flag=True,
    help="Withdraw the request for the record of --past, or all requests for SHARD, until a worker carries it out.",
)
@click.option(
    "--wait", is_flag=True, help="With --execute: wait until the application's checkpoint is past the record."
)
@click.option(
    "--timeout", type=DURATION, default="10m", show_default=True, help="With --wait: give up after this time."
)
@execute_option
@json_option
@application_options
def skip(**options: Any) -> None:
    """Move past one record of SHARD: it becomes a dead letter without being processed.

    The command writes a note on the shard's lease and takes the lease from its owner. The next worker that gets the
    shard drains its other shards and reads this shard from its checkpoint, without KCL. It processes the records before
    this one as usual, writes the dead letter (of the kind `skipped`), and goes on. If no worker runs, the next one does
    this when it starts. Until then the request can be withdrawn, and `penstock status` and `penstock leases list` show
    it.

    \b
    Examples:
      penstock shards skip shardId-000000000000 --past 4957 --config penstock.toml --why "ticket 4711"
      penstock shards skip shardId-000000000000 --withdraw --config penstock.toml
    """
    from consumer.cli.shards.skip import skip_record

    skip_record(**options)


def _change_options(command: Command) -> Command:
    """Adds the options that every command that changes shards has."""
    for option in (
        click.option(
            "--prices",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Prices in the form of consumer/aws/prices.json, instead of those of this version.",
        ),
        click.option(
            "--undo",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Where to write the undo file.  [default: penstock-undo-STREAM-TIME.json]",
        ),
        click.option(
            "--timeout", type=DURATION, default="1h", show_default=True, help="With --wait: give up after this time."
        ),
        click.option(
            "--wait",
            is_flag=True,
            help="With --execute: wait until the application has followed: closed shards read to their ends, each "
            "open shard's lease owned and renewed. Needs --config or --application.",
        ),
        execute_option,
        json_option,
        stream_options,
    ):
        command = option(command)
    return command


@shards.command()
@click.argument("count", type=click.IntRange(min=1))
@_change_options
def scale(count: int, **options: Any) -> None:
    """Change the number of open shards to COUNT, all of the same size. Refused if the stream has COUNT shards
    already, of unequal size.

    One call of UpdateShardCount can at most double or halve the count, so a larger change takes several calls, one
    after the other. Kinesis allows ten in 24 hours. After an interruption (Ctrl-C), run the same command again. It
    makes the calls that are left.

    \b
    Examples:
      penstock shards scale 8 --stream events
      penstock shards scale 4 --config penstock.toml --execute --wait
    """
    from consumer.admin.shards.changes import Scale
    from consumer.cli.shards.change import change

    change("scale", Scale(count), **options)


@shards.command()
@click.argument("shard")
@click.option(
    "--at", metavar="HASH", help="The first hash key of the upper shard, from 0 to 2^128-1. Default: the middle."
)
@click.option(
    "--weighted",
    is_flag=True,
    help="Split so that each half gets half of the load, by a sample of the shard: up to 10,000 of its records of the "
    "last five minutes. The sample takes one of the shard's five reads a second.",
)
@_change_options
def split(shard: str, at: str | None, weighted: bool, **options: Any) -> None:
    """Split SHARD in two.

    A split does not count against the ten changes of the shard count that Kinesis allows in 24 hours. Records that are
    in SHARD stay there, and the application reads them before it begins the two new shards.

    \b
    Examples:
      penstock shards split shardId-000000000000 --stream events
      penstock shards split shardId-000000000000 --stream events --weighted
    """
    from consumer.admin.shards.changes import Split
    from consumer.cli.shards.change import change, weighted_split
    from pipeline.errors import UserError
    from pipeline.hash_keys import hash_key

    if at is not None and weighted:
        raise UserError("--at and --weighted both say where to split. Give one of them")
    place = None if at is None else hash_key(at)
    if at is not None and place is None:
        raise UserError(f"--at {at} is not a hash key. Give a whole number from 0 to 2^128-1")
    if weighted:
        weighted_split(shard, **options)
    else:
        change("split", Split(shard, place), **options)


@shards.command()
@click.argument("shard")
@click.argument("neighbour")
@_change_options
def merge(shard: str, neighbour: str, **options: Any) -> None:
    """Merge SHARD and its NEIGHBOUR into one.

    Both must be open, and their hash keys must be adjacent. A merge does not count against the ten changes of the shard
    count that Kinesis allows in 24 hours.

    \b
    Examples:
      penstock shards merge shardId-000000000000 shardId-000000000001 --stream events
    """
    from consumer.admin.shards.changes import Merge
    from consumer.cli.shards.change import change

    change("merge", Merge(shard, neighbour), **options)


@shards.command()
@click.argument("file", type=click.Path(path_type=Path))
@_change_options
def undo(file: Path, **options: Any) -> None:
    """Undo a scale, split or merge, using the undo FILE that it wrote.

    Merges the two shards that a split made, splits a merged shard at the original boundary, or scales back to the
    former count. A scale makes shards of equal size; the plan says so if the shards were not equal. Shards that are
    made have new ids. Records stay where they are. Refused if the shards of a split or merge were changed since.

    \b
    Examples:
      penstock shards undo penstock-undo-events-20261127T120000Z.json --stream events
    """
    from consumer.cli.shards.change import undo_change

    undo_change(file, **options)

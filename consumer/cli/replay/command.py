"""``penstock replay``: three ways to read again. This file has the options; each way has its own file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import DURATION, RATE, STORE_URL, TIME, execute_option, json_option, only_with, stream_options

if TYPE_CHECKING:
    from consumer.admin.application import Target


@click.command()
@stream_options
@click.option("--from", "begin", type=TIME, metavar="TIME", help="Slice: records that arrived at this time or later.")
@click.option("--to", "end", type=TIME, metavar="TIME", help="Slice: records that arrived before this time.")
@click.option(
    "--url",
    type=STORE_URL,
    metavar="URL",
    help="Slice: the table to write, which must be new. Rewind: the new table that the configuration names.",
)
@click.option(
    "--sink", "sinks", multiple=True, metavar="kinesis:NAME", help="Slice: write rows to this stream; may be repeated."
)
@click.option(
    "--dead-letter", type=STORE_URL, metavar="URL", help="Slice: where dead letters go.  [default: URL.dead-letters]"
)
@click.option("--shards", "shards", multiple=True, metavar="SHARD", help="Slice: only this shard; may be repeated.")
@click.option("--rate", type=RATE, metavar="N", help="Slice, archive: at most N records per second.")
@click.option("--discard", is_flag=True, help="Slice: give up a replay that is not finished; delete its tables.")
@click.option("--rewind", is_flag=True, help="Move the leases of the application itself.")
@click.option("--to-time", type=TIME, metavar="TIME", help="Rewind: to this time of arrival.")
@click.option("--by", type=DURATION, metavar="DURATION", help="Rewind: to this long before now, such as 2h.")
@click.option("--to-earliest", is_flag=True, help="Rewind: to the oldest record that the stream has.")
@click.option(
    "--to-latest", is_flag=True, help="Rewind: to the end of every shard. The records before it are not read."
)
@click.option(
    "--from-file", type=click.Path(path_type=Path), metavar="FILE", help="Rewind: restore the leases from an undo file."
)
@click.option("--online", is_flag=True, help="Rewind: while workers run; at most 100 leases.")
@click.option(
    "--undo",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Rewind: where to write the undo file.  [default: penstock-undo-APPLICATION-TIME.json]",
)
@click.option(
    "--from-parquet", type=STORE_URL, metavar="URL", help="Archive: put the rows of a Parquet table on --stream."
)
@click.option(
    "--from-jsonl",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Archive: put the records of JSON lines, such as `penstock tail` prints or dead letters, on --stream.",
)
@click.option("--payload", metavar="COLUMN", help="Archive, Parquet: the column that holds the whole payload.")
@click.option("--fields", metavar="A,B,…", help="Archive, Parquet: make each payload a JSON object of these columns.")
@click.option(
    "--key", metavar="COLUMN", default="partition_key", show_default=True, help="Archive, Parquet: the partition key."
)
@click.option("--again", is_flag=True, help="Archive: put records again that were all put before.")
@execute_option
@json_option
def replay(target: Target, **options: Any) -> None:
    """Read records of a stream again, in one of three ways. Prints a plan; --execute carries it out.

    \b
    A slice beside the running application: --from and --to
      Reads what arrived between the two times, with an application of its own
      and the same model, into a new table, and ends by itself. The running
      application is not touched. The plan shows the command that continues it
      after an interruption, or shares its work elsewhere at the same time.

    \b
    The application itself: --rewind
      Moves its leases back to a time. Stop all workers first, or give
      --online. Writes an undo file first.

    \b
    From an archive: --from-parquet or --from-jsonl
      Puts payloads on a stream, with their partition keys, in order.

    Times are ISO 8601 with a zone, or '2h ago'.

    \b
    Examples:
      penstock replay --config penstock.toml --from '2h ago' --to '1h ago' --url out/replayed
      penstock replay --config penstock.toml --rewind --by 2h --url out/again
      penstock replay --stream events --from-jsonl archive.jsonl --rate 100 --execute
    """
    from pipeline.errors import UserError

    way = _way(options)
    _refuse_ignored(way, options)
    if way == "slice":
        from consumer.cli.replay import slices

        slices.replay(target, options)
    elif way == "rewind":
        from consumer.cli.replay import rewind

        rewind.replay(target, options)
    elif way == "archive":
        from consumer.cli.replay import archive

        archive.replay(target, options)
    else:
        raise UserError("Give --from and --to, or --rewind, or --from-parquet or --from-jsonl: see penstock replay -h")


def _way(options: dict[str, Any]) -> str | None:
    """Return which of the three ways is meant. :raises UserError: options of two ways are given."""
    from pipeline.errors import UserError

    belongs = {
        "slice": ("begin", "end", "sinks", "dead_letter", "shards", "discard"),
        "rewind": ("rewind", "to_time", "by", "to_earliest", "to_latest", "from_file", "online", "undo"),
        "archive": ("from_parquet", "from_jsonl", "payload", "fields", "again"),
    }
    given = {way: [name for name in names if options[name]] for way, names in belongs.items()}
    ways = [way for way, names in given.items() if names]
    if len(ways) > 1:
        words = [f"--{_word(given[way][0])}" for way in ways]
        raise UserError(f"{' and '.join(words)} do not go together: see penstock replay -h")
    return ways[0] if ways else None


def _refuse_ignored(way: str | None, options: dict[str, Any]) -> None:
    """:raises UserError: an option is given that this way would ignore."""
    from pipeline.errors import UserError

    if way == "rewind" and options["rate"]:
        raise UserError("--rate has no effect with --rewind: workers read as fast as they can. Leave it out")
    if way == "archive" and options["url"]:
        raise UserError("--url has no effect with an archive, whose records go onto --stream. Leave it out")
    for name in ("payload", "fields", "key"):
        if way == "archive" and not options["from_parquet"]:
            only_with(name, "from_parquet")


def _word(name: str) -> str:
    return {"begin": "from", "end": "to", "sinks": "sink"}.get(name, name.replace("_", "-"))

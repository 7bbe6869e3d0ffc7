"""``penstock status``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from consumer.cli.options import Duration, application_options, json_option, only_with

if TYPE_CHECKING:
    from consumer.admin.application import Target


@click.command()
@application_options
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C; on a terminal, a live screen.")
@click.option(
    "--every",
    type=Duration(least_s=0.5),
    default="2s",
    show_default=True,
    help="With --watch: the time between two reads. Each scans KCL's tables, which costs read units.",
)
@json_option
def status(target: Target, watch: bool, every: float, as_json: bool) -> None:
    """Show an application at a glance: each shard, each worker, and why a shard makes no progress.

    Per shard: its owner, how far it is behind, whether that grows or shrinks, when it will have caught up, the records
    settled per second, and the time since its checkpoint last moved. Per worker: its shards, mean batch size, busy
    share, efficiency and version. What is not known is shown as unknown.

    Reads KCL's tables, the stream's list of shards, and what each worker reports: a note that it writes beside the
    leases every 10 seconds, and its health page if that can be reached. Works for any KCL application: for workers that
    are not Penstock's, reads from the stream how far they are behind. Changes nothing.

    With --json and --watch, prints one object a line.

    \b
    Examples:
      penstock status --application penstock-events --stream events
      penstock status --config penstock.toml --watch
      penstock status --config penstock.toml --json
    """
    from consumer.admin.status.observe import Observer
    from consumer.aws.clients import Aws
    from consumer.cli.status import looks

    only_with("every", "watch")
    aws = Aws()
    application = target.application or ""
    clients = aws.client("dynamodb"), aws.client("kinesis")
    observer = Observer(*clients, target.stream, application, cloudwatch=aws.client("cloudwatch"))
    seen = looks.statuses(aws, observer, target)
    if not watch:
        looks.show(next(seen), as_json=as_json)
    elif as_json or not sys.stdout.isatty():
        looks.show_each(seen, every, as_json=as_json)
    else:
        looks.live(seen, every)

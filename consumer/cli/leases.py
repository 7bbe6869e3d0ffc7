"""``penstock leases``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from consumer.admin.reset_leases import Plan
    from consumer.config.settings import Settings
    from consumer.leases.leases import Lease


@click.group()
def leases() -> None:
    """Manage an application's leases: its position in each shard, which KCL keeps in DynamoDB."""


@leases.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The configuration that names stream and application.",
)
@click.option("--execute", is_flag=True, help="Delete the leases. Without this option, only print the plan.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def reset(path: Path, execute: bool, as_json: bool) -> None:
    """Delete all leases, so that the application starts again at stream.start.

    Use it after a stream was deleted and created again with the same name (workers refuse to start with the old
    leases), or to start from another position. LATEST means the time of the next start. Stop all workers first: with
    --execute, the command watches the leases for a little longer than kcl.failover_ms, and changes nothing if one of
    them is renewed.

    The records that the stream still holds are processed again. A Parquet table does not get duplicate rows; a Kinesis
    sink does.
    """
    from consumer.admin.reset_leases import carry_out, plan
    from consumer.aws.clients import Aws
    from consumer.config.load import load

    settings = load(path)
    aws = Aws()
    created_s = aws.stream_created_s(settings.stream.name)
    dynamodb, application = aws.client("dynamodb"), settings.stream.application
    planned: Plan = aws.ask(f"lease table {application}", lambda: plan(dynamodb, application))
    said = _said(planned, settings, created_s)
    if not as_json:
        for line in _lines(said):
            click.echo(line)
    if execute and not planned.nothing:
        failover_s = settings.kcl.failover_ms / 1000
        click.echo(f"watching the leases for {failover_s:g} s: nobody may renew one", err=True)
        aws.ask(f"lease table {application}", lambda: carry_out(dynamodb, planned, failover_s))
    _conclude(said, done=execute, as_json=as_json)


def _said(planned: Plan, settings: Settings, created_s: int) -> dict[str, Any]:
    from consumer.leases.binding import at

    return {
        "application": planned.application,
        "bound_to": str(planned.bound) if planned.bound else None,
        "leases": [{"shard_id": lease.shard_id, "at": _at(lease), "owner": lease.holder} for lease in planned.leases],
        "begins_anew_on": f'stream "{settings.stream.name}", made {at(created_s)}',
        "start": settings.stream.start,
    }


def _at(lease: Lease) -> str:
    return str(lease.checkpoint or lease.sentinel)


def _lines(said: dict[str, Any]) -> list[str]:
    lines = [f'lease table "{said["application"]}", {said["bound_to"] or "not bound to a stream"}; to be forgotten:']
    for lease in said["leases"]:
        owner = f"  (last held by {lease['owner']})" if lease["owner"] else ""
        lines.append(f"  {lease['shard_id']}  {lease['at']}{owner}")
    if not said["leases"]:
        lines.append("  no lease")
    return [*lines, f"then it begins anew on {said['begins_anew_on']}, at {said['start']}"]


def _conclude(said: dict[str, Any], *, done: bool, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps({**said, "executed": done}, ensure_ascii=False))
    else:
        click.echo("done" if done else "nothing changed; run again with --execute to delete the leases")

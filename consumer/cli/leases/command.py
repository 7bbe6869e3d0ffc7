"""``penstock leases``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import Group, application_options, command_line, execute_option, json_option

if TYPE_CHECKING:
    from consumer.admin.application import Target


@click.group(cls=Group)
def leases() -> None:
    """Manage an application's leases: its position in each shard, which KCL keeps in DynamoDB."""


@leases.command(name="list")
@application_options
@json_option
def list_(target: Target, as_json: bool) -> None:
    """List the leases: the owner of each shard, and how far it is read.

    `counter` goes up with each renewal; `switches` is the number of changes of owner since the last checkpoint.
    Reads the tables of KCL 3.0 to 3.4 (three) and of KCL 3.5 (one). Changes nothing.

    \b
    Examples:
      penstock leases list --application penstock-events --stream events
      penstock leases list --config penstock.toml --json
    """
    from consumer.cli.leases import printing

    printing.show_all(target, as_json=as_json)


@leases.command()
@click.argument("shard")
@application_options
@json_option
def show(shard: str, target: Target, as_json: bool) -> None:
    """Show the lease of SHARD with every attribute that it has in DynamoDB.

    \b
    Examples:
      penstock leases show shardId-000000000000 --config penstock.toml
    """
    from consumer.cli.leases import printing

    printing.show_one(target, shard, as_json=as_json)


@leases.command()
@click.argument("shard")
@application_options
@execute_option
@json_option
def release(shard: str, target: Target, execute: bool, as_json: bool) -> None:
    """Take the lease of SHARD from its owner. KCL's leader then gives it to a worker, perhaps to the same one.

    Use it if an owner renews the lease but makes no progress on the shard. No record is lost: the next owner continues
    from the checkpoint, so records after it are processed again. A Parquet table does not get duplicate rows; a Kinesis
    sink does. Refused while a handoff is pending, and while there is no living leader.

    \b
    Examples:
      penstock leases release shardId-000000000000 --config penstock.toml
      penstock leases release shardId-000000000000 --config penstock.toml --execute
    """
    from consumer.cli.leases import printing

    printing.release(target, shard, execute=execute, as_json=as_json)


@leases.command()
@application_options
@click.option(
    "--undo",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write the undo file.  [default: penstock-undo-APPLICATION-TIME.json]",
)
@execute_option
@json_option
def reset(target: Target, undo: Path | None, execute: bool, as_json: bool) -> None:
    """Delete all leases, so that the application starts again at stream.start.

    Use it after a stream was deleted and created again with the same name (workers refuse to start with the old
    leases), or to start from another position. LATEST means the time of the next start. Stop all workers first: with
    --execute, the command watches the leases for a little longer than kcl.failover_ms, and changes nothing if one of
    them is renewed. Writes an undo file first, for `penstock leases restore`.

    The records that the stream still holds are processed again. A Parquet table does not get duplicate rows; a Kinesis
    sink does.

    \b
    Examples:
      penstock leases reset --config penstock.toml
      penstock leases reset --config penstock.toml --execute
    """
    from consumer.admin.release_lease import FAILOVER_S
    from consumer.admin.reset_leases import carry_out, plan
    from consumer.aws.clients import Aws
    from consumer.cli import output
    from consumer.cli.leases import printing
    from pipeline.errors import NothingToDo

    aws = Aws()
    created_s = aws.stream_created_s(target.stream)
    dynamodb, application = aws.client("dynamodb"), target.application or ""
    planned = aws.ask(f"lease table {application}", lambda: plan(dynamodb, application))
    if planned.nothing:
        raise NothingToDo(f'application "{application}" has no leases: it starts again in any case')
    said: dict[str, Any] = printing.reset_plan(planned, target, created_s)
    if not as_json:
        printing.print_reset(said)
    if execute:
        failover_s = target.settings.kcl.failover_ms / 1000 if target.settings is not None else FAILOVER_S
        said["undo"] = str(printing.write_undo(planned, undo))
        output.note(f"checking for {failover_s:g} s that no worker renews a lease")
        aws.ask(f"lease table {application}", lambda: carry_out(dynamodb, planned, failover_s))
    if as_json:
        output.emit("leases.reset", {**said, "executed": execute})
    else:
        back = command_line("leases restore", str(said["undo"]), "--execute")
        done = f"done; to put the leases back: {back}"
        output.line(done if execute else "nothing changed; run again with --execute to delete the leases")


@leases.command()
@click.argument("file", type=click.Path(path_type=Path))
@application_options
@execute_option
@json_option
def restore(file: Path, target: Target, execute: bool, as_json: bool) -> None:
    """Restore the leases that a reset deleted, from its undo file FILE.

    The application continues where it was before the reset. Refused if the application has started again since, or if
    the stream was deleted and created again. After an interruption, run the same command again.

    \b
    Examples:
      penstock leases restore penstock-undo-events.json --config penstock.toml
      penstock leases restore penstock-undo-events.json --config penstock.toml --execute
    """
    from consumer.cli.leases import printing

    printing.restore(target, file, execute=execute, as_json=as_json)

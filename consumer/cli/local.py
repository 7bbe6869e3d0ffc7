"""``penstock local``."""

from __future__ import annotations

from typing import Literal

import click

from consumer.cli.options import Group


@click.group(cls=Group)
def local() -> None:
    """Run a local AWS on this machine: Kinesis, DynamoDB, S3, CloudWatch and more."""


@local.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port to listen on; 0: a free port."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--limits",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether to enforce AWS's limits of records and bytes per second and shard.",
)
@click.option(
    "--allow-remote", is_flag=True, help="Allow a --host that other machines can reach. There is no authentication."
)
def up(port: int, host: str, limits: Literal["on", "off"], allow_remote: bool) -> None:
    """Serve until SIGTERM. Prints one line of JSON with the endpoint when ready.

    Set AWS_ENDPOINT_URL to the endpoint to use it from boto3, the AWS CLI and the KCL.
    """
    from pipeline.extras import require

    require("local")
    from consumer.local.server import up as serve

    serve(host, port, limits == "on", allow_remote)

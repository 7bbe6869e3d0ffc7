"""A worker joins its application: checks that the tables belong to its stream, and that every shard has a lease.
Blocks.

There are two steps: errors must show before the model loads, and leases are made when a worker is ready to read. Any
number of workers may join at once.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.leases.binding import Binding, bind
from consumer.leases.seed import seed
from consumer.leases.state import one_table_refusal
from consumer.leases.tables import items, made_at, make_tables, refuse_foreign_items, shaped
from consumer.leases.turns import take_turn
from pipeline.errors import UserError, counted

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import Settings, StreamSettings

log = logging.getLogger("leases")


def join(settings: Settings, aws: Aws, stream_created_s: int) -> StreamSettings:
    """Return the settings of the stream, with the ``start`` that the application has stored.

    KCL would need 10 seconds for each of three tables and for the index, so Penstock makes them, unless a property in
    ``[kcl.properties]`` configures one. Then KCL makes them, and the first worker binds them while it runs.

    :raises UserError: if the application belongs to another stream, or keeps everything in one table as KCL 3.5 does,
        if a table of this name is not KCL's, or if AWS refuses a call.
    """
    stream = settings.stream
    dynamodb = aws.client("dynamodb")
    table = f"lease table {stream.application}"
    aws.ask(table, lambda: made_at(dynamodb, stream.application))  # refuses a table with another key
    there = aws.ask(table, lambda: items(dynamodb, stream.application))
    refuse_foreign_items(stream.application, there or ())
    if refusal := one_table_refusal(stream.application, there or ()):
        raise UserError(refusal)
    if not shaped(settings.kcl.properties):
        aws.ask(table, lambda: make_tables(dynamodb, stream.application))
    bound = bound_to(stream, aws, stream_created_s)
    if bound is None:
        now = datetime.now(UTC).replace(microsecond=0)
        return stream.model_copy(update={"start": now.isoformat()}) if stream.start == "LATEST" else stream
    if stream.start not in ("LATEST", bound.start):
        log.warning(
            "application %s started at %s. stream.start = %s applies only to a new application, or after "
            "`penstock leases reset`",
            stream.application,
            bound.start,
            stream.start,
        )
    return stream.model_copy(update={"start": bound.start})


def bound_to(stream: StreamSettings, aws: Aws, stream_created_s: int) -> Binding | None:
    """The application's binding; None if it has no tables yet. Raises ``UserError``."""
    dynamodb, kinesis = aws.client("dynamodb"), aws.client("kinesis")
    found: Binding | None = aws.ask(
        f"lease table {stream.application}",
        lambda: bind(
            dynamodb, kinesis, stream.application, stream.name, stream_created_s, stream.start, datetime.now(UTC)
        ),
    )
    return found


def make_leases(aws: Aws, stream: StreamSettings) -> None:
    """Create a lease for each shard that needs one, then wait for this worker's turn to start: :func:`take_turn`.

    KCL sleeps a random 1 to 30 seconds if the lease table is empty. ``stream`` is what :func:`join` returned.
    """
    dynamodb, kinesis, application = aws.client("dynamodb"), aws.client("kinesis"), stream.application
    table = f"lease table {application}"
    if aws.ask(table, lambda: made_at(dynamodb, application)) is None:
        return  # KCL will create it
    made = aws.ask(table, lambda: seed(dynamodb, kinesis, application, stream.name, stream.start))
    if made:
        log.info("created leases for %s: %s", counted(len(made), "shard"), ", ".join(made))
    take_turn(dynamodb, application, uuid.uuid4().hex)

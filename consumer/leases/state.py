"""Reads everything that KCL stores about an application, in either table layout. For commands; workers read less.

KCL 3.0 to 3.4 have three tables: ``<application>`` for leases, ``<application>-WorkerMetricStats`` and
``<application>-CoordinatorState``. KCL 3.5 can keep everything in the first: there ``entityType`` says what an item is
(``EntityType``), an item without one is a lease, and a worker's item has its id as ``leaseKey``. An application moves
from one layout to the other in steps (``TableMigrationStatus``), while both hold items; so both are always read, and of
two items for the same thing the newer one is used. Penstock's own items are read with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumer.leases.binding import Binding, binding_of
from consumer.leases.leases import Lease, lease_of
from consumer.leases.tables import Item, is_lease, items, number, text
from consumer.leases.worker_notes import WorkerNote, note_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

THREE_TABLES, ONE_TABLE, NO_TABLES = "three tables", "one table", "no tables"

LEADER, LEASE, WORKER_METRIC_STATS, STREAM = "LEADER", "LEASE", "WORKER_METRIC_STATS", "STREAM"
CLIENT_VERSION_MIGRATION, TABLE_MIGRATION = "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION"

WELL_KNOWN = {
    "Leader": LEADER,
    "Migration3.0": CLIENT_VERSION_MIGRATION,
    "TableMigration3.5": TABLE_MIGRATION,
}
"""Keys of items that older releases wrote without ``entityType``."""

REPORTED_S = 90.0
"""A worker of KCL reports every 30 seconds; one that has not reported for longer than this is considered dead."""

NOTED_S = 15.0
"""The same for a worker of Penstock: it reports every 5 seconds, and writes its note every 10."""

FAILED_METRIC = -1.0
"""KCL writes this for a metric that it could not read. Such a worker gets no leases."""


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """A worker's report. ``reported_s``: epoch seconds by the worker's clock; None if KCL wrote none."""

    worker: str
    reported_s: int | None
    values: Mapping[str, tuple[float, ...]]
    """By metric (``CPU``, ``THROUGHPUT`` …), the latest last; empty if KCL balances by throughput alone."""

    @property
    def failing(self) -> tuple[str, ...]:
        """The metrics whose latest value KCL could not read."""
        return tuple(sorted(name for name, values in self.values.items() if values and values[-1] == FAILED_METRIC))


@dataclass(frozen=True, slots=True)
class Leader:
    """The owner of the leader's lock. ``version`` changes with each heartbeat; ``lasts_s``: a dead one's duration."""

    worker: str
    version: str
    lasts_s: float | None


@dataclass(frozen=True, slots=True)
class Migration:
    """Progress of an application's migration to one table, and from KCL 2 to 3; None: KCL has written nothing.

    ``table``: INIT, DEPLOYED, PENDING or COMPLETE, since ``table_since_s``. ``client``: as KCL calls it, such as
    CLIENT_VERSION_3X.
    """

    table: str | None = None
    table_since_s: float | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """The contents of an application's tables, read consistently, table by table.

    ``leader`` is None if no worker has the lock. ``binding``: the stream it belongs to, None if no Penstock worker has
    bound it. ``notes``: the reports of Penstock's workers, by worker id.
    """

    application: str
    layout: str
    leases: tuple[Lease, ...] = ()
    workers: Mapping[str, WorkerMetrics] = field(default_factory=dict)
    leader: Leader | None = None
    migration: Migration = Migration()
    binding: Binding | None = None
    notes: Mapping[str, WorkerNote] = field(default_factory=dict)

    def last_sign_s(self, worker: str) -> float | None:
        """Epoch seconds of a worker's last report or note, by its own clock; None if it has neither."""
        metrics, note = self.workers.get(worker), self.notes.get(worker)
        told = [metrics.reported_s if metrics is not None else None, note.at_s if note is not None else None]
        return max((float(each) for each in told if each is not None), default=None)

    def silent_after_s(self, worker: str) -> float:
        """Seconds without a sign after which this worker is considered dead."""
        return NOTED_S if worker in self.notes else REPORTED_S

    def lease(self, shard_id: str) -> Lease | None:
        """The lease of this shard."""
        return next((lease for lease in self.leases if lease.shard_id == shard_id), None)


def one_table_refusal(application: str, lease_items: Iterable[Item]) -> str:
    """Why a worker of Penstock may not join an application that KCL 3.5 keeps in one table; empty if it may. Pure.

    The KCL of this release, 3.1.3, cannot parse what is no lease in the lease table. And the other tables, which a
    worker makes, would let workers of KCL 3.5 take the application for one that has not been migrated, with a leader of
    its own.
    """
    kinds = {kind_of(item, text(item, "leaseKey")) for item in lease_items}
    if not kinds & {LEADER, WORKER_METRIC_STATS, TABLE_MIGRATION}:
        return ""
    return (
        f"lease table \"{application}\" also holds the leader's lock and the workers' metrics, as KCL 3.5 keeps them. "
        "Workers of this release need three tables (KCL 3.0 to 3.4). Use another stream.application; "
        "`penstock status`, `leases` and `replay` work with this one"
    )


def read_state(dynamodb: DynamoDBClient, application: str) -> ApplicationState:
    """Read everything, page by page; :data:`NO_TABLES` if there is no lease table. Raises botocore's errors.

    :raises UserError: an item in the lease table is not one that KCL writes.
    """
    leases = items(dynamodb, application)
    if leases is None:
        return ApplicationState(application, NO_TABLES)
    metrics = items(dynamodb, f"{application}-WorkerMetricStats")
    coordinator = items(dynamodb, f"{application}-CoordinatorState")
    return state_of(application, leases, metrics, coordinator)


def state_of(
    application: str, lease_items: Iterable[Item], metrics: Iterable[Item] | None, coordinator: Iterable[Item] | None
) -> ApplicationState:
    """Parse the items. Pure. ``metrics`` and ``coordinator`` are None if the tables do not exist."""
    found: dict[str, list[Item]] = defaultdict(list)
    for item in lease_items:
        found[kind_of(item, text(item, "leaseKey"))].append(item)
    in_one_table = bool(found[LEADER] or found[WORKER_METRIC_STATS] or found[TABLE_MIGRATION])
    for item in coordinator or ():
        found[kind_of(item, text(item, "key"))].append(item)
    found[WORKER_METRIC_STATS] += metrics or ()
    migration = _migration(found)
    one = migration.table == "COMPLETE" or (in_one_table and migration.table in (None, "PENDING"))
    return ApplicationState(
        application,
        ONE_TABLE if one else THREE_TABLES,
        tuple(sorted(map(lease_of, found[LEASE]), key=lambda lease: lease.shard_id)),
        _workers(found[WORKER_METRIC_STATS]),
        _leader(found[LEADER]),
        migration,
        next(filter(None, map(binding_of, found[""])), None),
        {note.worker: note for note in filter(None, map(note_of, found[""]))},
    )


def kind_of(item: Item, key: str) -> str:
    """The type of an item: its ``entityType``, or by its key as in older releases; empty if it is not KCL's."""
    if kind := text(item, "entityType"):
        return kind
    if key in WELL_KNOWN and "checkpoint" not in item:
        return WELL_KNOWN[key]
    return LEASE if is_lease(item) else ""


def _workers(found: Iterable[Item]) -> dict[str, WorkerMetrics]:
    """In the old table a worker's key is ``wid``; in the one table it is ``leaseKey``. The newest report is used."""
    workers: dict[str, WorkerMetrics] = {}
    for item in found:
        worker = text(item, "wid") or text(item, "leaseKey")
        reported = number(item, "lut")
        new = WorkerMetrics(worker, None if reported is None else int(reported), _values(item))
        old = workers.get(worker)
        if old is None or (new.reported_s or 0) >= (old.reported_s or 0):
            workers[worker] = new
    return workers


def _values(item: Item) -> dict[str, tuple[float, ...]]:
    stats = item.get("sts", {}).get("M", {})
    return {name: tuple(float(each["N"]) for each in values.get("L", ())) for name, values in stats.items()}


def _leader(found: Iterable[Item]) -> Leader | None:
    """The lock in the one table takes precedence over that in the old table, which remains after a migration."""
    for item in sorted(found, key=lambda item: "leaseKey" not in item):
        if "isReleased" not in item and text(item, "ownerName"):
            lasts_ms = text(item, "leaseDuration")
            lasts_s = int(lasts_ms) / 1000 if lasts_ms.isdecimal() else None
            return Leader(text(item, "ownerName"), text(item, "recordVersionNumber"), lasts_s)
    return None


def _migration(found: Mapping[str, list[Item]]) -> Migration:
    """The state of the table migration that was written last."""
    tables = sorted(found.get(TABLE_MIGRATION, ()), key=lambda item: number(item, "mts") or 0)
    clients = sorted(found.get(CLIENT_VERSION_MIGRATION, ()), key=lambda item: number(item, "mts") or 0)
    since_ms = number(tables[-1], "mts") if tables else None
    return Migration(
        text(tables[-1], "tm").removeprefix("TABLE_MIGRATION_STATUS_") or None if tables else None,
        None if since_ms is None else since_ms / 1000,
        text(clients[-1], "cv") or None if clients else None,
    )

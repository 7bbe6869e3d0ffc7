"""What each worker says of itself, beside KCL's items: where its health page is, and a short copy of what that says.

It lies in ``<application>-CoordinatorState`` as an item of its own, whose key begins with :data:`PREFIX`. KCL reads the
items of this table by their keys, and by ``entityType``, which this one has not: it leaves it alone. A task's page is
often out of an operator's reach (it listens on 127.0.0.1 unless told otherwise); DynamoDB is not. All calls block.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer.leases.tables import Item, number, text

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PREFIX = "PenstockWorker/"
"""Begins the item's key; the worker's id follows."""

EVERY_S = 10.0
"""Between two writes of a worker: 1 or 2 write units every 10 seconds."""

FORGOTTEN_S = 3600.0
"""A note that has not been written for longer is of a task that died without a word: the next worker deletes it."""


@dataclass(frozen=True, slots=True)
class WorkerNote:
    """``url`` is the base of the health page, as reached from ``host``; ``at_s`` by the worker's clock; ``stats`` as
    ``/stats`` has it."""

    worker: str
    url: str
    host: str
    at_s: float
    stats: Mapping[str, Any]


def write(dynamodb: DynamoDBClient, application: str, note: WorkerNote) -> None:
    """Write or replace it. Failures come as botocore's errors, ``ResourceNotFoundException`` before KCL's tables."""
    item: Item = {
        "key": {"S": f"{PREFIX}{note.worker}"},
        "url": {"S": note.url},
        "host": {"S": note.host},
        "at": {"N": f"{note.at_s:.3f}"},
        "stats": {"S": json.dumps(note.stats, separators=(",", ":"))},
    }
    dynamodb.put_item(TableName=_table(application), Item=item)


def forget(dynamodb: DynamoDBClient, application: str, workers: Iterable[str]) -> None:
    """Delete the notes of workers that have left."""
    for worker in workers:
        dynamodb.delete_item(TableName=_table(application), Key={"key": {"S": f"{PREFIX}{worker}"}})


def outdated(notes: Iterable[WorkerNote], now_s: float) -> list[str]:
    """The workers whose notes nobody has written for :data:`FORGOTTEN_S`. Pure."""
    return [note.worker for note in notes if now_s - note.at_s > FORGOTTEN_S]


def note_of(item: Item) -> WorkerNote | None:
    """None if the item is something else. Statistics that cannot be read are left out."""
    key, at_s = text(item, "key") or text(item, "leaseKey"), number(item, "at")
    if not key.startswith(PREFIX) or at_s is None:
        return None
    try:
        stats = json.loads(text(item, "stats") or "{}")
    except ValueError:
        stats = {}
    return WorkerNote(
        key.removeprefix(PREFIX), text(item, "url"), text(item, "host"), at_s, stats if isinstance(stats, dict) else {}
    )


def _table(application: str) -> str:
    return f"{application}-CoordinatorState"

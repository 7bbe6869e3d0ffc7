"""What each worker says of itself, beside KCL's items: where its health page is, and a short copy of what that says.

It lies in ``<application>-CoordinatorState`` as an item of its own, whose key begins with :data:`PREFIX`. KCL reads the
items of this table by their keys, and by ``entityType``, which this one has not: it leaves it alone. A task's page is
often out of an operator's reach (it listens on 127.0.0.1 unless told otherwise); DynamoDB is not. All calls block.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.leases.tables import Item, items, number, text

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger("leases")

PREFIX = "PenstockWorker/"
"""Prefix of the item's key; the worker's id follows."""

EVERY_S = 10.0
"""Seconds between two writes of a worker; a write costs 1 or 2 write units."""

FORGOTTEN_S = 3600.0
"""Seconds after which a note that is not renewed is considered left behind by a killed task and deleted."""


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


class WorkerNoteBook:
    """One worker's note: written while it works, deleted when it leaves. A failed write is repeated with the next one
    and does not end the task. Thread-safe."""

    def __init__(self, dynamodb: Callable[[], DynamoDBClient], application: str, worker: str) -> None:
        self._client = dynamodb
        self._application = application
        self._worker = worker
        self._lock = threading.Lock()
        self._left = False
        self._cleared = False

    def write(self, url: str, stats: Mapping[str, Any]) -> None:
        """Write it; the first time, also delete those of workers that are long gone."""
        note = WorkerNote(self._worker, url, socket.gethostname(), time.time(), stats)
        with self._lock:
            if self._left:
                return
            try:
                write(self._client(), self._application, note)
                if not self._cleared:
                    self._clear(note.at_s)
                self._cleared = True
            except (BotoCoreError, ClientError) as error:
                log.debug("the note of %s is not written: %s", self._worker, error)

    def leave(self) -> None:
        """Delete it; nothing is written afterwards."""
        with self._lock:
            self._left = True
            try:
                forget(self._client(), self._application, [self._worker])
            except (BotoCoreError, ClientError) as error:
                log.debug("the note of %s stays: %s", self._worker, error)

    def _clear(self, now_s: float) -> None:
        dynamodb = self._client()
        found = map(note_of, items(dynamodb, _table(self._application)) or ())
        forget(dynamodb, self._application, outdated(filter(None, found), now_s))


def outdated(notes: Iterable[WorkerNote], now_s: float) -> list[str]:
    """The workers whose notes have not been written for :data:`FORGOTTEN_S`. Pure."""
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

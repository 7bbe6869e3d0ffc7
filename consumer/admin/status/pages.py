"""The workers' own pages: ``/stats`` of each worker that has left a note, all at once, where they can be reached."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from consumer.leases.worker_notes import WorkerNote

TIMEOUT_S = 1.0
AT_ONCE = 16

MOST_BYTES = 4 * 1024 * 1024
"""A page of 10,000 shards has less. Whatever else answers there is not read further."""


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """``stats`` is None where no page answers; ``refused``: the machine does, and says that there is none."""

    stats: Mapping[str, Any] | None = None
    refused: bool = False


def ask_all(notes: Mapping[str, WorkerNote], timeout_s: float = TIMEOUT_S) -> dict[str, PageAnswer]:
    """By worker id. Pages that listen on a loopback address are asked on their own machine alone. Blocks."""
    here = socket.gethostname()
    near = {worker: note for worker, note in notes.items() if note.host == here or not _is_loopback(note.url)}
    if not near:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(near))) as threads:
        answers = threads.map(lambda note: ask(note.url, timeout_s), near.values())
        return dict(zip(near, answers, strict=True))


def ask(url: str, timeout_s: float = TIMEOUT_S) -> PageAnswer:
    """One worker's ``/stats``. Follows no redirect, and reads :data:`MOST_BYTES` at most."""
    where = urlsplit(url)
    if where.scheme != "http" or where.hostname is None:
        return PageAnswer()
    connection = http.client.HTTPConnection(where.hostname, where.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", "/stats")
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
        stats = json.loads(body) if answer.status == http.HTTPStatus.OK else None
    except ConnectionRefusedError:
        return PageAnswer(refused=True)
    except (OSError, http.client.HTTPException, ValueError):
        return PageAnswer()
    finally:
        connection.close()
    return PageAnswer(stats if isinstance(stats, dict) else None)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Requests ``/stats`` of each worker that has written a note, all at once, if they can be reached."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from consumer.leases.worker_notes import WorkerNote

TIMEOUT_S = 2.0
LONGEST_PAUSE_S = 60.0
"""A page that never answers, as behind a firewall, delays a look no more often than this."""

AT_ONCE = 16

MOST_BYTES = 4 * 1024 * 1024
"""Maximum size read. A page of 10,000 shards is smaller; anything larger is not a worker's page."""


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """``stats`` is None if no page answers; ``refused``: the machine answers, but refuses the connection."""

    stats: Mapping[str, Any] | None = None
    refused: bool = False


class WorkerPages:
    """Asks pages, and those that do not answer less and less often. ``clock`` never goes back."""

    def __init__(self, ask: Callable[[str], PageAnswer], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._silent: dict[str, tuple[int, float]] = {}
        """By address: how often in a row there was no answer, and when to ask again."""

    def ask_all(self, notes: Mapping[str, WorkerNote]) -> dict[str, PageAnswer]:
        """The answers by worker id. A page on a loopback address is asked only on its own machine. Blocks."""
        here, now = socket.gethostname(), self._clock()
        near = {worker: note.url for worker, note in notes.items() if note.host == here or not _is_loopback(note.url)}
        due = {worker: url for worker, url in near.items() if self._silent.get(url, (0, now))[1] <= now}
        if not due:
            return {}
        with ThreadPoolExecutor(min(AT_ONCE, len(due))) as threads:
            answers = dict(zip(due, threads.map(self._ask, due.values()), strict=True))
        for worker, answer in answers.items():
            self._note(due[worker], silent=answer == PageAnswer())
        return answers

    def _note(self, url: str, *, silent: bool) -> None:
        if not silent:
            self._silent.pop(url, None)
            return
        times = self._silent.get(url, (0, 0.0))[0] + 1
        self._silent[url] = (times, self._clock() + min(LONGEST_PAUSE_S, 2.0**times))


def ask(url: str, timeout_s: float = TIMEOUT_S) -> PageAnswer:
    """Request one worker's ``/stats``. Does not follow redirects, and reads :data:`MOST_BYTES` at most."""
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

"""A worker's report about itself: whether it is healthy and ready, and its figures.

``/healthz``, ``/readyz`` and ``/stats`` show it, and the worker's note beside the leases has it for ``penstock
status``. Each report is made in the host's event loop. It has shard ids, the names of sinks, counts and the reasons of
outages, and nothing from a record.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipeline.flow.progress import Progress

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from consumer.kcl.session import ShardSession
    from consumer.watchers import Watchers
    from pipeline.metrics import Metrics

ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104  # compared with, not listened on

OUTSIDE = ("192.0.2.1", 9)
"""An address that is reserved for documentation (RFC 5737). A datagram socket that is connected to it knows the address
of this machine; nothing is sent."""


class WorkerReport:
    """Makes the reports of one task. For each, it calls ``sessions`` (the shards' sessions), ``careful`` (the shards
    that are read carefully) and ``leaving`` (whether the task drains). ``warm``: the model has predicted, and the JVM
    has started."""

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        metrics: Metrics,
        watchers: Watchers,
        *,
        careful: Callable[[], Collection[str]],
        leaving: Callable[[], bool],
    ) -> None:
        self.sessions: Callable[[], Iterable[ShardSession]] = tuple
        self.warm = False
        self._settings = settings
        self._worker_id = worker_id
        self._metrics = metrics
        self._watchers = watchers
        self._careful = careful
        self._leaving = leaving
        self._started_s = time.time()
        self._release = version("penstock")  # it reads a file: not for each report

    def unhealthy(self) -> str | None:
        """Return why the task is not healthy; None if it is. Without a running event loop there would be no answer."""
        stopped = self._metrics.dead_letters.stop_reason
        return "; ".join([*filter(None, [stopped]), *self._watchers.unhealthy.values()]) or None

    def unready(self) -> str | None:
        """Return why the task does not read every shard that it should; None if it does."""
        if careful := self._careful():
            return f"reads {', '.join(sorted(careful))} carefully"
        if self._leaving():
            return "leaving"
        return self._watchers.unready if self.warm else "the model is not warm yet"

    def stats(self) -> dict[str, Any]:
        """Totals since the start, and what is so now; JSON as it is."""
        now, wall_s = time.monotonic(), time.time()
        watchers, late = self._watchers, self._metrics.replica_time.recent_shares()
        shards = self._shards(now, wall_s)
        return {
            **self._metrics.snapshot(),
            **self._who(wall_s),
            "leaving": self._leaving(),
            "busy": round(1 - late["waiting"], 4) if late else None,
            "efficiency": round(late["model"], 4) if late else None,
            "batch_p99_s": round(self._metrics.batches.p99_s, 3),
            "age_s": self._age_s(shards, wall_s),
            "by_shard": shards,
            "batches_out": batches(self._metrics.progress, now),
            "stuck": dict(watchers.stuck),
            "unread": dict(watchers.leases.unread.told) if watchers.leases is not None else {},
            "handoffs_s": watchers.leases.handoffs_s(now) if watchers.leases is not None else {},
            "careful": sorted(self._careful()),
        }

    def _who(self, wall_s: float) -> dict[str, Any]:
        settings = self._settings
        return {
            "worker": self._worker_id,
            "penstock": self._release,
            "model_version": settings.model.version,
            "started_at": round(self._started_s, 3),
            "at": round(wall_s, 3),
            "max_leases": settings.kcl.max_leases,
            "failover_s": settings.kcl.failover_ms / 1000,
            "timeout_s": settings.model.timeout_s,
        }

    def _age_s(self, shards: Mapping[str, Mapping[str, Any]], wall_s: float) -> float:
        """The age of the oldest record that is not durable, or how far the last shard is behind if that is more."""
        oldest_ms = self._metrics.in_flight.oldest_ms()
        age_s = 0.0 if oldest_ms is None else wall_s - oldest_ms / 1000
        worst_s: float = max([0.0, age_s, *(each["behind_s"] for each in shards.values())])
        return round(worst_s, 3)

    def _shards(self, now: float, wall_s: float) -> dict[str, dict[str, Any]]:
        found = {}
        for session in self.sessions():
            if session.shard_id and not session.over:
                seen = session.look()
                found[session.shard_id] = {
                    "state": session.state.value,
                    "began_after": session.began,
                    "behind_s": round(seen.behind_s(now, wall_s), 3),
                    **seen.counts(now),
                    **_pace(self._metrics.progress, session.shard_id, now),
                }
        return found


def batches(progress: Progress, now: float) -> list[dict[str, Any]]:
    """Return the batches that are in the model now, the oldest first."""
    return [
        {"age_s": round(each.age_s, 3), "tries": each.tries, "shards": list(each.shards)}
        for each in progress.batches(now)
    ]


def reached_at(url: str, host: str) -> str:
    """Return the health page's ``url`` as other machines reach it: if it listens on every address of this machine, with
    the address that other machines use."""
    return url.replace(host, _own_address(), 1) if host in ANY_ADDRESS else url


def _own_address() -> str:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(OUTSIDE)
            return str(datagrams.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _pace(progress: Progress, shard_id: str, now: float) -> Mapping[str, Any]:
    pace = progress.pace(shard_id, now)
    if pace is None:
        return {}
    return {
        "received": pace.received,
        "settled": pace.settled,
        "rate": _rounded(pace.rate),
        "arrival_rate": _rounded(pace.arrival_rate),
        "slope": _rounded(pace.slope),
        "idle_s": round(pace.idle_s, 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

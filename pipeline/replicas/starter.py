"""Starts the replicas of one pool, all with the same model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pipeline.errors import Fatal, ModelError, ReplicaDied
from pipeline.model_process.assignment import Assignment
from pipeline.replicas import answers
from pipeline.replicas.process import ReplicaProcess, TimedOut

log = logging.getLogger("host")


class ReplicaStarter:
    """``link`` makes a replica. ``timeout_s``: for loading and warming up the model."""

    def __init__(self, link: Callable[[Assignment], ReplicaProcess], timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._running: set[ReplicaProcess] = set()
        self._reader: answers.AnswerReader | None = None
        self._wants_records = False

    @property
    def reader(self) -> answers.AnswerReader:
        """Reads the answers of the replicas. There is one once a replica has started."""
        assert self._reader is not None
        return self._reader

    async def close(self) -> None:
        """End every replica that has a process."""
        await asyncio.gather(*(link.close() for link in list(self._running)))

    def has_ended(self, link: ReplicaProcess) -> None:
        """The replica's process has ended: :meth:`close` need not end it."""
        self._running.discard(link)

    async def start(self, assignment: Assignment) -> tuple[ReplicaProcess, answers.Ready]:
        """Start a replica; returns it and its first answer, once the model is loaded and warm.

        :raises ModelError: the model cannot be used, is not loaded in time, or has changed since the first start.
        :raises Fatal: the replica died while it loaded.
        """
        link = self._link(assignment)
        self._running.add(link)
        try:
            ready = await link.start(self._timeout_s)
            self._compare(assignment, ready)
        except TimedOut:
            await self._forget(link)
            limit = f"{self._timeout_s:g} s (model.start_timeout_s)"
            raise ModelError(f"model.factory {assignment.factory}: not loaded and warmed up within {limit}") from None
        except ReplicaDied as error:
            await self._forget(link)
            printed = "the log has what it printed (the log of a command: penstock --debug)"
            raise Fatal(f"{error} while it loaded {assignment.factory}; {printed}") from None
        except Exception:
            await self._forget(link)
            raise
        timing = {"pid": link.pid, "took_s": round(ready.seconds, 3)}
        log.info("%s replica %d serves", assignment.role, link.number, extra=timing)
        return link, ready

    def _compare(self, assignment: Assignment, ready: answers.Ready) -> None:
        """Check that a later replica has the same columns and parameters as the first one."""
        if self._reader is None:
            self._reader = answers.AnswerReader(ready.schema)
            self._wants_records = ready.wants_records
        elif ready.schema != self._reader.schema:
            raise ModelError(
                f"model.factory {assignment.factory}: its columns have changed since the start; restart the task"
            )
        elif ready.wants_records != self._wants_records:
            raise ModelError(
                f"model.factory {assignment.factory}: its predict has changed since the start; restart the task"
            )

    async def _forget(self, link: ReplicaProcess) -> None:
        await link.close()
        self._running.discard(link)

"""The JVM's output, turned into our log: one record of KCL's, stack trace and all, is one record of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from consumer.kcl.repeated_messages import RepeatedMessages

MARK = "KCL|"
"""Begins every record; what does not begin with it continues the record before."""

KINESIS = "software.amazon.kinesis"
QUIET = {
    "multilang.MessageWriter": "WARN",
    "multilang.LineReaderTask": "WARN",
    "multilang.MultiLangProtocol": "WARN",
    "multilang.config": "WARN",
    "coordinator.assignment": "WARN",
    "coordinator.migration": "WARN",
    "coordinator.DynamicMigrationComponentsInitializer": "WARN",
    "coordinator.MigrationAdaptiveLeaseAssignmentModeProvider": "WARN",
    "coordinator.DiagnosticEventLogger": "WARN",
    "leader": "WARN",
    "leases.dynamodb.DynamoDBLeaseDiscoverer": "WARN",
    "leases.dynamodb.DynamoDBLeaseRefresher": "WARN",
    "lifecycle.ProcessTask": "ERROR",
}
"""What these say below that, they say at each call of each shard, or every second or two: only with DEBUG.

``ProcessTask`` warns at every call of a shard younger than KCL's cache of shards, up to 30 seconds after a reshard.
"""

ORDINARY = {("LeaseAssignmentManager", "Not able to assign all expiredOrUnAssignedLeases")}
"""Warnings of every first start: no worker has given a sign of life yet. Shards that stay without a reader are told by
:mod:`consumer.leases.unread`."""

SKIPPED = ("|ShardConsumerSubscriber|", "Caught exception from handleInput")
"""KCL has read records, cannot hand them on, and goes on behind them: it says so, and nobody else will."""

LEVELS = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}


def logback(level: str) -> str:
    """The configuration that makes KCL write what :class:`KclLog` reads. ``level`` is a name of Python's."""
    java = {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(level, level)
    quiet = {f"{KINESIS}.{name}": "INFO" if java == "DEBUG" else floor for name, floor in QUIET.items()}
    levels = quiet | dict.fromkeys(("software.amazon.awssdk", "io.netty"), "WARN")
    if java == "ERROR":
        levels[f"{KINESIS}.lifecycle.ShardConsumerSubscriber"] = "WARN"
    loggers = "".join(f'  <logger name="{name}" level="{level}"/>\n' for name, level in levels.items())
    return f"""<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><charset>UTF-8</charset><pattern>{MARK}%level|%logger{{0}}|%msg%n%ex</pattern></encoder>
  </appender>
{loggers}  <root level="{java}"><appender-ref ref="OUT"/></root>
</configuration>
"""


def tells_of_skipped_records(line: str) -> bool:
    """Whether this line means that a shard has a gap from now on, for as long as this JVM runs."""
    return line.startswith(MARK) and all(mark in line for mark in SKIPPED)


class KclLog:
    """Feed it lines; it logs a record once the next one begins, or at :meth:`flush`.

    Loggers are named ``kcl.<class>`` and keep KCL's level. What the JVM says on its own is a warning of ``kcl``.
    Warnings and errors that are said over and over are counted (:mod:`consumer.kcl.repeated_messages`).
    """

    MAX_LINES = 200
    """Of one record; the rest of a longer one is dropped, and the record says so."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._repeated = RepeatedMessages()
        self._logger = "kcl"
        self._level = logging.WARNING
        self._lines: list[str] = []
        self._dropped = 0

    @property
    def pending(self) -> bool:
        return bool(self._lines)

    def feed(self, line: str) -> None:
        line = line.rstrip()
        if line.startswith(MARK):
            self.flush()
            level, _, rest = line.removeprefix(MARK).partition("|")
            name, _, message = rest.partition("|")
            self._level = logging.INFO if (name, message) in ORDINARY else LEVELS.get(level, logging.WARNING)
            self._logger = f"kcl.{name}" if name else "kcl"
            self._lines = [message]
        elif len(self._lines) >= self.MAX_LINES:
            self._dropped += 1
        elif line or self._lines:
            self._lines.append(line)

    def flush(self) -> None:
        """Log what was fed and is not logged yet."""
        if not self._lines:
            return
        if self._dropped:
            self._lines.append(f"... and {self._dropped} more lines")
        text = self._repeated.wording(self._logger, self._level, self._lines, self._clock())
        if text is not None:
            logging.getLogger(self._logger).log(self._level, "%s", text)
        self._logger, self._level, self._lines, self._dropped = "kcl", logging.WARNING, [], 0

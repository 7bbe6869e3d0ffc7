"""Converts the output of the JVM to our log: one record of KCL, with its stack trace, becomes one record of ours."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from consumer.kcl.repeated_messages import RepeatedMessages

MARK = "KCL|"
"""The start of every record. A line without it continues the previous record."""

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
"""The lowest level of loggers that write at every call of each shard, or every second. DEBUG turns them all on.

``ProcessTask`` warns at every call of a shard that is newer than KCL's cache, up to 30 seconds after a reshard.
"""

ORDINARY = {("LeaseAssignmentManager", "Not able to assign all expiredOrUnAssignedLeases")}
"""Warnings of every first start, before any worker has reported. :mod:`consumer.leases.unread` reports shards that stay
without a reader."""

SKIPPED = ("|ShardConsumerSubscriber|", "Caught exception from handleInput")
"""The parts of the line that is the only sign that KCL has read records, could not deliver them, and continues after
them."""

LEVELS = {
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}


def logback(level: str) -> str:
    """Return the logback configuration with which KCL writes what :class:`KclLog` reads. ``level`` is Python's name."""
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
    """Whether this line means that KCL has skipped records of a shard."""
    return line.startswith(MARK) and all(mark in line for mark in SKIPPED)


class KclLog:
    """Takes lines with :meth:`feed` and logs a record once the next one starts, or at :meth:`flush`.

    Loggers are named ``kcl.<class>`` and keep KCL's level. Other output of the JVM becomes a warning of ``kcl``.
    Repeated warnings and errors are counted (:mod:`consumer.kcl.repeated_messages`).
    """

    MAX_LINES = 200
    """Maximum number of lines of a record. Further lines are dropped, and the record says how many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._repeated = RepeatedMessages()
        self._logger = "kcl"
        self._level = logging.WARNING
        self._lines: list[str] = []
        self._dropped = 0

    @property
    def pending(self) -> bool:
        """Whether a record has been fed that is not logged yet."""
        return bool(self._lines)

    def feed(self, line: str) -> None:
        """Take one line of the JVM's output."""
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
        """Log the record that has been fed and not logged yet, if any."""
        if not self._lines:
            return
        if self._dropped:
            self._lines.append(f"... and {self._dropped} more lines")
        text = self._repeated.wording(self._logger, self._level, self._lines, self._clock())
        if text is not None:
            logging.getLogger(self._logger).log(self._level, "%s", text)
        self._logger, self._level, self._lines, self._dropped = "kcl", logging.WARNING, [], 0

    def close(self) -> None:
        """Log what has been fed and not logged yet, and how many repetitions were left out."""
        self.flush()
        for logger, level, text in self._repeated.left_out(self._clock()):
            logging.getLogger(logger).log(level, "%s", text)

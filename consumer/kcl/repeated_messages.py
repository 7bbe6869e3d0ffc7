"""Limits repeated messages of KCL: in full the first time, then once a minute as one line with a count. Pure.

The first repetition that names another shard is one line at once, so that every failing shard is named.

When AWS or the network fails, every thread of KCL logs it for every shard several times a second, with a stack trace of
a hundred lines.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass, field

AGAIN_S = 60.0
"""Seconds after which a repeated message is logged again, with the number of repetitions."""

FORGOTTEN_S = 3600.0
"""Seconds without repetition after which a message is logged in full again."""

MOST_MESSAGES = 256
"""Maximum number of messages that are remembered; the least recent one is dropped."""

NUMBERED = re.compile(r"\S*\d\S*")
"""Words that differ between repetitions: ids of shards and requests, sequence numbers, times."""

SHARD = re.compile(r"shardId-\d+")
"""Ids of shards; a message about another shard is news, unlike one about another request."""

MOST_SHARDS = 1_000
"""Maximum number of shards that are remembered for a message."""

KEY_LENGTH = 200


@dataclass(slots=True)
class _Message:
    logged_s: float
    said_s: float
    text: str
    shards: set[str] = field(default_factory=set)
    left_out: int = 0

    def names_another(self, line: str) -> bool:
        """Whether the line names a shard for the first time; the shards count as named from now on."""
        new = set(SHARD.findall(line)) - self.shards if len(self.shards) < MOST_SHARDS else set()
        self.shards |= new
        return bool(new)


class RepeatedMessages:
    """Limits warnings and errors. Messages of lower levels are not limited."""

    def __init__(self) -> None:
        self._messages: OrderedDict[tuple[str, int, str], _Message] = OrderedDict()

    def wording(self, logger: str, level: int, lines: list[str], now: float) -> str | None:
        """Return the text to log for a message, or None. ``lines`` has its text, then its stack trace, if any."""
        text = "\n".join(lines)
        if level < logging.WARNING:
            return text
        key = (logger, level, _without_numbers(lines))
        message = self._messages.get(key)
        if message is None or now - message.said_s >= FORGOTTEN_S:
            message = _Message(now, now, lines[0])
            message.names_another(lines[0])
            self._remember(key, message)
            return text
        self._remember(key, message)
        message.said_s = now
        if message.names_another(lines[0]):
            return lines[0]
        if now - message.logged_s < AGAIN_S:
            message.left_out += 1
            return None
        said, since_s = message.left_out, now - message.logged_s
        message.logged_s, message.left_out = now, 0
        return f"{lines[0]} ({said} more like it in the last {since_s:.0f} s)" if said else lines[0]

    def left_out(self, now: float) -> list[tuple[str, int, str]]:
        """Return logger, level and text for each message with repetitions that were not logged. They count as told."""
        told = []
        for (logger, level, _), message in self._messages.items():
            if message.left_out:
                since_s = now - message.logged_s
                told.append((logger, level, f"{message.text} ({message.left_out} more like it in {since_s:.0f} s)"))
            message.left_out = 0
        return told

    def _remember(self, key: tuple[str, int, str], message: _Message) -> None:
        self._messages[key] = message
        self._messages.move_to_end(key)
        if len(self._messages) > MOST_MESSAGES:
            self._messages.popitem(last=False)


def _without_numbers(lines: list[str]) -> str:
    """The text without words that differ between repetitions, with the class of the exception, if any."""
    exception = lines[1].partition(":")[0] if len(lines) > 1 else ""
    return NUMBERED.sub("#", f"{lines[0][:KEY_LENGTH]} {exception[:KEY_LENGTH]}")

"""What KCL says over and over: in full the first time, then once a minute, as one line with a count. Pure.

Where AWS or the network fails, every thread of KCL for every shard says so several times a second, with a stack trace
of a hundred lines: the log of a task would be nothing else, and cost more than what it tells.
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass

AGAIN_S = 60.0
"""What has been said is said again after so long, with how often it was said meanwhile."""

FORGOTTEN_S = 3600.0
"""What was silent for so long is said in full again."""

MOST_MESSAGES = 256
"""That are remembered; the one that was said longest ago is forgotten."""

NUMBERED = re.compile(r"\S*\d\S*")
"""Words that differ from time to time: ids of shards and requests, sequence numbers, times."""

KEY_LENGTH = 200


@dataclass(slots=True)
class _Message:
    logged_s: float
    said_s: float
    left_out: int = 0


class RepeatedMessages:
    """For warnings and errors; whatever is less is said as it comes."""

    def __init__(self) -> None:
        self._messages: OrderedDict[tuple[str, int, str], _Message] = OrderedDict()

    def wording(self, logger: str, level: int, lines: list[str], now: float) -> str | None:
        """What to log of a message now; None: nothing. ``lines``: its text, then its stack trace, if it has one."""
        text = "\n".join(lines)
        if level < logging.WARNING:
            return text
        key = (logger, level, _alike(lines))
        message = self._messages.get(key)
        if message is None or now - message.said_s >= FORGOTTEN_S:
            self._remember(key, _Message(now, now))
            return text
        self._remember(key, message)
        message.said_s = now
        if now - message.logged_s < AGAIN_S:
            message.left_out += 1
            return None
        said, since_s = message.left_out, now - message.logged_s
        message.logged_s, message.left_out = now, 0
        return f"{lines[0]} ({said} more like it in the last {since_s:.0f} s)" if said else lines[0]

    def _remember(self, key: tuple[str, int, str], message: _Message) -> None:
        self._messages[key] = message
        self._messages.move_to_end(key)
        if len(self._messages) > MOST_MESSAGES:
            self._messages.popitem(last=False)


def _alike(lines: list[str]) -> str:
    """Without what differs from time to time; with the exception's class, if there is one."""
    exception = lines[1].partition(":")[0] if len(lines) > 1 else ""
    return NUMBERED.sub("#", f"{lines[0][:KEY_LENGTH]} {exception[:KEY_LENGTH]}")

"""The connection to a bridge, as a session sees it."""

from __future__ import annotations

from typing import Protocol


class Gone(Exception):
    """The bridge is gone: the JVM ended, or it closed this child."""


class Wire(Protocol):
    """The connection to a bridge, line by line."""

    async def read(self) -> bytes:
        """Return the next line.

        :raises Gone: at the end of the connection.
        """
        ...

    async def write(self, line: bytes) -> None:
        """Send a line.

        :raises Gone: if the connection is closed.
        """
        ...

"""Who may come in at the bridges' socket: what runs as this user, and has read this start's token.

The token lies beside the socket, in a folder that only this user may enter. It is in no command line and no log. What
runs as the same user can read it as well: against that one user is no protection (docs/security.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
import struct
from pathlib import Path

TOKEN_BYTES = 64
"""As it is said: hexadecimal, without the end of a line."""

TOKEN_S = 10.0
"""A bridge says it before anything else."""

MOST_STRANGERS = 64
"""Connections that have not said it yet. One more, and the oldest is closed: a bridge's is never old."""


class Stray(Exception):
    """A connection that did not begin as a bridge's does. Says why, and nothing of what it said."""


def token_path(socket_path: Path) -> Path:
    """Where a bridge looks for the token (``consumer/kcl/bridge.py`` has it, too)."""
    return socket_path.with_name(f"{socket_path.name}.token")


class Door:
    """Of one start: makes its token, and leaves it beside the socket."""

    def __init__(self, socket_path: Path) -> None:
        self._token = secrets.token_hex(TOKEN_BYTES // 2).encode()
        self._strangers: dict[asyncio.Task[object], None] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(token_path(socket_path), flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._token)

    async def admit(self, reader: asyncio.StreamReader, connection: socket.socket | None) -> None:
        """Return when the token has been said. Raises :class:`Stray`."""
        if _is_foreign(connection):
            raise Stray("is another user's")
        task = asyncio.current_task()
        assert task is not None
        self._make_room()
        self._strangers[task] = None
        try:
            async with asyncio.timeout(TOKEN_S):
                said = await reader.readexactly(TOKEN_BYTES)
        except asyncio.IncompleteReadError as error:
            raise Stray("ended before it said a token" if error.partial else "ended without a word") from None
        except ConnectionError:
            raise Stray("broke before it said a token") from None
        except TimeoutError:
            raise Stray(f"said no token within {TOKEN_S:g} s") from None
        except asyncio.CancelledError:
            if task in self._strangers:
                raise
            task.uncancel()
            raise Stray(f"was the oldest of {MOST_STRANGERS} without a token") from None
        finally:
            self._strangers.pop(task, None)
        if not hmac.compare_digest(said, self._token):
            raise Stray("said another token")

    def _make_room(self) -> None:
        if len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()


def _is_foreign(connection: socket.socket | None) -> bool:
    """Where the system tells whose it is. The socket's mode and its folder's keep others away; root they do not."""
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return False
    with contextlib.suppress(OSError):
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return bool(struct.unpack("3i", found)[1] != os.getuid())
    return True

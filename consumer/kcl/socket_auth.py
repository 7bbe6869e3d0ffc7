"""Authentication at the bridges' socket: only processes of this user that send the token of this start are accepted.

The token is in a file beside the socket, in a folder that only this user may enter. It never appears in a command line
or a log. It does not protect against other processes of the same user, which can read it too (docs/security.md).
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
"""Length of the token as it is sent: hexadecimal digits without a newline."""

TOKEN_S = 10.0
"""Seconds within which the token must arrive. A bridge sends it first."""

MOST_STRANGERS = 64
"""Maximum number of connections without a token. One more, and the oldest is closed: a bridge sends it at once."""


class RejectedConnection(Exception):
    """The connection is not a bridge of KCL. The text says why, without the data that was sent."""


def token_path(socket_path: Path) -> Path:
    """Return the path of the token. ``consumer/kcl/bridge.py`` has the same rule."""
    return socket_path.with_name(f"{socket_path.name}.token")


class SocketAuth:
    """The authentication of one start. The constructor makes the token and writes it beside the socket."""

    def __init__(self, socket_path: Path) -> None:
        self._token = secrets.token_hex(TOKEN_BYTES // 2).encode()
        self._strangers: dict[asyncio.Task[object], None] = {}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(token_path(socket_path), flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._token)

    async def admit(self, reader: asyncio.StreamReader, connection: socket.socket | None) -> None:
        """Wait for the token.

        :raises RejectedConnection: if the connection is another user's or does not send the token in time.
        """
        if _is_foreign(connection):
            raise RejectedConnection("belongs to another user")
        task = asyncio.current_task()
        assert task is not None
        self._make_room()
        self._strangers[task] = None
        try:
            async with asyncio.timeout(TOKEN_S):
                said = await reader.readexactly(TOKEN_BYTES)
        except asyncio.IncompleteReadError as error:
            raise RejectedConnection(
                "ended before it sent a token" if error.partial else "ended without sending anything"
            ) from None
        except ConnectionError:
            raise RejectedConnection("broke before it sent a token") from None
        except TimeoutError:
            raise RejectedConnection(f"sent no token within {TOKEN_S:g} s") from None
        except asyncio.CancelledError:
            if task in self._strangers:
                raise
            task.uncancel()
            raise RejectedConnection(f"was the oldest of {MOST_STRANGERS} without a token") from None
        finally:
            self._strangers.pop(task, None)
        if not hmac.compare_digest(said, self._token):
            raise RejectedConnection("sent a wrong token")

    def _make_room(self) -> None:
        if len(self._strangers) >= MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()


def _is_foreign(connection: socket.socket | None) -> bool:
    """Whether the peer is another user, if the system can tell. File modes already exclude all others except root."""
    if connection is None or not hasattr(socket, "SO_PEERCRED"):
        return False
    with contextlib.suppress(OSError):
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return bool(struct.unpack("3i", found)[1] != os.getuid())
    return True

"""The host's end of the bridges: one private Unix socket, one session per connection.

A connection that does not send the token of this start (:mod:`consumer.kcl.socket_auth`), or does not start like KCL,
is a stray. It is closed and counted, and does not affect other connections. A connection that has sent ``initialize``
is KCL's, and any later error ends the task.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from consumer.kcl.protocol import Initialize, Message, ProtocolError, decode
from consumer.kcl.session import ShardSession
from consumer.kcl.session_states import SessionState
from consumer.kcl.socket_auth import RejectedConnection, SocketAuth
from consumer.kcl.wire import Gone, Wire
from pipeline import background
from pipeline.errors import Broken, PenstockError, one_line

log = logging.getLogger("bridges")

MESSAGE_LIMIT_BYTES = 512 * 1024 * 1024
"""Upper bound of a line. The messages of KCL are far smaller: GetRecords returns at most 10 MiB (14 MB as base64) and
10,000 records, each with at most 2 kB of other fields (a key of 256 escaped characters)."""

READ_BYTES = 1024 * 1024
"""Bytes of a connection that are buffered before they are read."""

INLINE_BYTES = 1024 * 1024
"""Messages up to this size are decoded in the event loop, in about 1 ms. Larger ones are decoded in a thread, so that
other shards do not wait; that takes longer in total, because the thread and the event loop share the interpreter."""

JVM_FIRST_S = 1.0
"""Seconds to wait after a bridge has ended. A JVM that dies ends its bridges too, and its error explains more."""

GREETING_BYTES = 16 * 1024
"""Maximum size of the first message. The first message of KCL has about 200 bytes."""

GREETING_S = 60.0
"""Seconds within which the first message must arrive. KCL writes it as soon as the bridge runs; after a minute its
leases would have expired."""


class StreamWire:
    """The connection of a bridge, as lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = b""

    async def greet(self) -> None:
        """Wait for the first line, which :meth:`read` then returns.

        :raises RejectedConnection: if it is not ``initialize``.
        """
        while b"\n" not in self._heard:
            if len(self._heard) > GREETING_BYTES:
                raise RejectedConnection(f"sent {GREETING_BYTES} bytes without the end of a line")
            try:
                chunk = await self._reader.read(GREETING_BYTES)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise RejectedConnection(
                    "ended within its first line" if self._heard else "ended without sending anything"
                )
            self._heard += chunk
        try:
            message = decode(self._heard[: self._heard.index(b"\n")])
        except ProtocolError:
            raise RejectedConnection("sent a line that is not a message of KCL") from None
        if not isinstance(message, Initialize):
            raise RejectedConnection(f"started with {type(message).__name__}")

    async def read(self) -> bytes:
        """The next line, with its newline.

        :raises Gone: at the end of the connection.
        :raises Broken: if the line is longer than ``MESSAGE_LIMIT_BYTES``.
        """
        line, end, self._heard = self._heard.partition(b"\n")
        if end:
            return line + end
        parts, held = [line], len(line)
        while not parts[-1].endswith(b"\n"):
            parts.append(await self._part())
            held += len(parts[-1])
            if held > MESSAGE_LIMIT_BYTES:
                raise Broken(f"KCL sent a message of more than {MESSAGE_LIMIT_BYTES} bytes")
        return b"".join(parts)

    async def _part(self) -> bytes:
        """The rest of the line, or what has been buffered of a long line."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as much:
            return await self._reader.readexactly(max(1, much.consumed))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone from None

    async def write(self, line: bytes) -> None:
        """Send a line and wait until the connection takes more.

        :raises Gone: if the connection is closed.
        """
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError:
            raise Gone from None


class Decoder:
    """Decodes small messages in the event loop and large ones in a thread. More threads would not be faster."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="decode")

    async def __call__(self, line: bytes, decode: Callable[[], Message]) -> Message:
        """Return ``decode()``. ``line`` is the message; its size decides where it is decoded."""
        if len(line) <= INLINE_BYTES:
            return decode()
        return await asyncio.get_running_loop().run_in_executor(self._threads, decode)

    def close(self) -> None:
        """Stop the thread. Messages that are waiting are not decoded."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class BridgeServer:
    """Accepts bridges and runs a session for each. ``failure`` resolves with the error that must end the task.

    ``on_stray`` is called for every connection that was closed because it is not a bridge of KCL.
    """

    def __init__(
        self,
        session: Callable[[Wire], ShardSession],
        on_stray: Callable[[], None] = lambda: None,
        *,
        greeting_s: float = GREETING_S,
    ) -> None:
        self._session = session
        self._on_stray = on_stray
        self._greeting_s = greeting_s
        self._server: asyncio.Server | None = None
        self._strays = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._sessions: dict[ShardSession, None] = {}
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def listen(self, socket_path: Path) -> None:
        """Accept connections at ``socket_path`` and write the token beside it. Only this user may enter the folder."""
        self._auth = SocketAuth(socket_path)
        self._server = await asyncio.start_unix_server(self._connected, socket_path, limit=READ_BYTES)
        os.chmod(socket_path, 0o600)

    @property
    def sessions(self) -> list[ShardSession]:
        """The sessions of KCL's connections, oldest first."""
        return list(self._sessions)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = background.start(
            partial(self._serve, reader, writer),
            name="a bridge's connection",
            on_failure=self._fail,
        )
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = StreamWire(reader, writer)
        try:
            if await self._begins_well(wire, reader, writer):
                await self._run(self._session(wire))
        finally:
            writer.close()

    async def _begins_well(self, wire: StreamWire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is a bridge. Others are counted; the 1st, 2nd, 4th, 8th … is logged."""
        try:
            await self._auth.admit(reader, writer.get_extra_info("socket"))
            async with asyncio.timeout(self._greeting_s):
                await wire.greet()
        except RejectedConnection as stray:
            why = str(stray)
        except TimeoutError:
            why = f"sent no complete line within {self._greeting_s:g} s"
        else:
            return True
        self._strays += 1
        if self._strays.bit_count() == 1:
            log.warning("closed a stray connection to the bridges' socket (%d in total): it %s", self._strays, why)
        self._on_stray()
        return False

    async def _run(self, session: ShardSession) -> None:
        """Run a session. A bridge that dies within a shard ends the task: otherwise KCL would wait for its drain, and
        keep every lease of the task, for ``kcl.shutdown_grace_s``.
        """
        self._sessions[session] = None
        try:
            await session.run()
            if session.state is SessionState.READING:
                await asyncio.sleep(JVM_FIRST_S)
                self._fail(Broken(f"the bridge of {session.shard_id} ended by itself, which ends the JVM"))
        except PenstockError as error:
            self._fail(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # any error of a session ends the task
            self._fail(Broken(f"session of {session.shard_id or 'a new shard'} failed: {one_line(error)}"))
            log.error("session of %s failed", session.shard_id, exc_info=error)
        finally:
            del self._sessions[session]

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def close(self) -> None:
        """Stop accepting, and cancel every session. Their lanes are abandoned."""
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

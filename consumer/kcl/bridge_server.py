"""The host's end of the bridges: one private Unix socket, one session per connection.

A connection that does not say this start's token (:mod:`consumer.kcl.door`), or then does not begin as KCL does, is a
stray: it is closed and counted, and costs nobody else anything. One that has said ``initialize`` is KCL's, and what is
wrong with it from there on ends the task.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from consumer.kcl.door import Door, Stray
from consumer.kcl.protocol import Initialize, Message, ProtocolError, decode
from consumer.kcl.session import Gone, ShardSession, State, Wire
from pipeline import background
from pipeline.errors import Broken, PenstockError, one_line

log = logging.getLogger("bridges")

MESSAGE_LIMIT_BYTES = 512 * 1024 * 1024
"""No message of KCL's comes near it: a GetRecords call gives at most 10 MiB, 14 MB as base64, and 10,000 records, each
with 2 kB around it at most (a key of 256 characters, all of them escaped). It is there so that a line has an end."""

READ_BYTES = 1024 * 1024
"""Of a connection, about so much is held that nobody has asked for; a message is put together while it is read."""

INLINE_BYTES = 1024 * 1024
"""Messages up to this size are decoded where they arrive, in about 1 ms; larger ones in a thread, so that no other
shard waits for them. That costs more: a thread that decodes and the event loop take the interpreter from each other."""

JVM_FIRST_S = 1.0
"""A JVM that dies takes its bridges with it, and says more about why; so a bridge that is gone waits for that."""

GREETING_BYTES = 16 * 1024
"""KCL's first message has about 200 bytes. A connection holds little more than this before it has said one."""

GREETING_S = 60.0
"""KCL writes its first message as soon as the bridge runs. Later than this its leases have been lost long since."""


class StreamWire:
    """A bridge's connection as lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = b""

    async def greet(self) -> None:
        """Return when the first line is there, still to be read, and is ``initialize``. Raises :class:`Stray`."""
        while b"\n" not in self._heard:
            if len(self._heard) > GREETING_BYTES:
                raise Stray(f"said {GREETING_BYTES} bytes without the end of a line")
            try:
                chunk = await self._reader.read(GREETING_BYTES)
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise Stray("ended before its first line did" if self._heard else "ended without a word")
            self._heard += chunk
        try:
            message = decode(self._heard[: self._heard.index(b"\n")])
        except ProtocolError:
            raise Stray("said what is no message of KCL's") from None
        if not isinstance(message, Initialize):
            raise Stray(f"began with {type(message).__name__}")

    async def read(self) -> bytes:
        line, end, self._heard = self._heard.partition(b"\n")
        if end:
            return line + end
        parts, held = [line], len(line)
        while not parts[-1].endswith(b"\n"):
            parts.append(await self._part())
            held += len(parts[-1])
            if held > MESSAGE_LIMIT_BYTES:
                raise Broken(f"a message of more than {MESSAGE_LIMIT_BYTES} bytes came from KCL")
        return b"".join(parts)

    async def _part(self) -> bytes:
        """The rest of the line, or as much of it as there is, if that is much."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as much:
            return await self._reader.readexactly(max(1, much.consumed))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone from None

    async def write(self, line: bytes) -> None:
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError:
            raise Gone from None


class Decoder:
    """Decodes small messages at once and large ones in a thread; two would only get in each other's way."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="decode")

    async def __call__(self, line: bytes, decode: Callable[[], Message]) -> Message:
        if len(line) <= INLINE_BYTES:
            return decode()
        return await asyncio.get_running_loop().run_in_executor(self._threads, decode)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class BridgeServer:
    """Accepts bridges and runs a session for each. ``failure`` resolves with what must end the task.

    ``on_stray`` is called for every connection that was closed because it did not begin as KCL's do.
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
        """Accept at ``socket_path``, which lies in a folder that only this user may enter; the token lies beside it."""
        self._door = Door(socket_path)
        self._server = await asyncio.start_unix_server(self._connected, socket_path, limit=READ_BYTES)
        os.chmod(socket_path, 0o600)

    @property
    def sessions(self) -> list[ShardSession]:
        """Of the connections that began as KCL's do, in the order of their beginning."""
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
        """Whether it is a bridge; what is none is counted, and the 1st, 2nd, 4th, 8th … is logged."""
        try:
            await self._door.admit(reader, writer.get_extra_info("socket"))
            async with asyncio.timeout(self._greeting_s):
                await wire.greet()
        except Stray as stray:
            why = str(stray)
        except TimeoutError:
            why = f"said no whole line within {self._greeting_s:g} s"
        else:
            return True
        self._strays += 1
        if self._strays.bit_count() == 1:
            log.warning("closed a stray connection to the bridges' socket (%d by now): it %s", self._strays, why)
        self._on_stray()
        return False

    async def _run(self, session: ShardSession) -> None:
        """A bridge that dies in mid-shard ends the task: KCL would wait for it to drain, and hold every lease of the
        task meanwhile, for ``kcl.shutdown_grace_s``.
        """
        self._sessions[session] = None
        try:
            await session.run()
            if session.state is State.READING:
                await asyncio.sleep(JVM_FIRST_S)
                self._fail(Broken(f"the bridge of {session.shard_id} ended by itself, which ends the JVM"))
        except PenstockError as error:
            self._fail(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # whatever ends a session ends the task
            self._fail(Broken(f"session of {session.shard_id or 'a new shard'} failed: {one_line(error)}"))
            log.error("session of %s failed", session.shard_id, exc_info=error)
        finally:
            del self._sessions[session]

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def close(self) -> None:
        """End every session where it stands; their lanes are abandoned."""
        if self._server is not None:
            self._server.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

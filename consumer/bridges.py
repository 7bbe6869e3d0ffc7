"""The host's end of the bridges: one private Unix socket, one session per connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consumer.protocol import Message
from consumer.session import Gone, ShardSession, Wire
from pipeline.errors import Fatal, PenstockError

log = logging.getLogger("bridges")

MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
"""KCL reads at most 10 MiB per GetRecords call, about 14 MB as base64; four times that is no message of KCL's."""

INLINE_BYTES = 32 * 1024
"""Messages up to this size are decoded where they arrive; larger ones in a thread, so that no other shard waits."""

DECODER_THREADS = 2


class StreamWire:
    """A bridge's connection as lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone from None
        except asyncio.LimitOverrunError:
            raise Fatal(f"a message of more than {MESSAGE_LIMIT_BYTES} bytes came from KCL") from None
        return line

    async def write(self, line: bytes) -> None:
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError:
            raise Gone from None


class Decoder:
    """Decodes small messages at once and large ones in a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DECODER_THREADS, thread_name_prefix="decode")

    async def __call__(self, line: bytes, decode: Callable[[], Message]) -> Message:
        if len(line) <= INLINE_BYTES:
            return decode()
        return await asyncio.get_running_loop().run_in_executor(self._threads, decode)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Bridges:
    """Accepts bridges and runs a session for each. ``failure`` resolves with what must end the task."""

    def __init__(self, session: Callable[[Wire], ShardSession]) -> None:
        self._session = session
        self._server: asyncio.Server | None = None
        self._running: dict[asyncio.Task[None], ShardSession] = {}
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def listen(self, socket_path: Path) -> None:
        """Accept at ``socket_path``, which lies in a folder that only this user may enter."""
        self._server = await asyncio.start_unix_server(self._connected, socket_path, limit=MESSAGE_LIMIT_BYTES)

    @property
    def sessions(self) -> list[ShardSession]:
        return list(self._running.values())

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = self._session(StreamWire(reader, writer))
        task = asyncio.create_task(self._run(session, writer))
        self._running[task] = session
        task.add_done_callback(self._running.pop)

    async def _run(self, session: ShardSession, writer: asyncio.StreamWriter) -> None:
        try:
            await session.run()
        except PenstockError as error:
            self._fail(error)
        except Exception as error:
            log.exception("session of %s failed", session.shard_id)
            self._fail(Fatal(f"session of {session.shard_id or 'a new shard'} failed: {error!r}"))
        finally:
            writer.close()

    def _fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_result(error)

    async def close(self) -> None:
        """End every session where it stands; their lanes are abandoned."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

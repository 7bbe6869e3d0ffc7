"""The event loop's end of a replica's stream. Apart from :mod:`pipeline.model_process.frames`, so that a replica starts
without asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.model_process.frames import BODY_LIMIT_BYTES, Assembler, Frame, Garbage


class FrameProtocol(asyncio.BufferedProtocol):
    """The event loop's end of the stream. ``on_end`` is called once, when the stream has ended, also after garbage."""

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        on_garbage: Callable[[Garbage], None],
        on_end: Callable[[], None],
        body_limit: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._on_frame = on_frame
        self._on_garbage = on_garbage
        self._on_end = on_end
        self._assembler = Assembler(body_limit)
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (``asyncio.BaseProtocol``)."""
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to write the next bytes; ``sizehint`` is ignored (``asyncio.BufferedProtocol``)."""
        return self._assembler.space()

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on a completed frame. After garbage, close the stream and call ``on_garbage``."""
        try:
            frame = self._assembler.wrote(nbytes)
        except (Garbage, MemoryError) as error:
            assert self._transport is not None
            self._transport.close()
            self._on_garbage(error if isinstance(error, Garbage) else Garbage("a frame too large for memory"))
            return
        if frame:
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """Call ``on_end``."""
        self._on_end()

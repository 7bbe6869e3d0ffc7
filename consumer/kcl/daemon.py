"""The JVM of KCL: starts it in its own process group, watches it and ends it.

The JVM starts one bridge per shard; each connects to ``socket_path``, where the host must listen before
:meth:`Daemon.start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.kcl import aggregator, bridge, die_with_parent
from consumer.kcl.java import find_jars, find_java
from consumer.kcl.jvm_log import KclLog, logback, tells_of_skipped_records
from consumer.kcl.properties import AwsEndpoints, properties, render
from consumer.kcl.run_folder import RunFolder
from pipeline import background, reaper
from pipeline.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from consumer.config.settings import KclSettings, StreamSettings

log = logging.getLogger("kcl")

MAIN_CLASS = "software.amazon.kinesis.multilang.MultiLangDaemon"
LINE_LIMIT_BYTES = 1024 * 1024
QUIET_S = 0.2
"""Seconds without output after which a log record of KCL counts as complete."""

LOADED_S = 10.0
"""Seconds after the first message of a shard within which KCL must have loaded our class. It does so before it has a
lease."""

OUT_OF_MEMORY = 3
"""The exit status of ``-XX:+ExitOnOutOfMemoryError``."""

SMALL_HEAP_MIB = 64
"""Initial size of the heap. Java's default is a share of the machine's memory, which is more than needed."""

OUTPUT_END_S = 0.5
"""Seconds after the exit of the JVM for its output to close. A bridge that is still ending may keep it open."""


class Daemon:
    """One JVM. The constructor finds everything that it needs, so that mistakes show before the model is loaded."""

    def __init__(
        self, kcl: KclSettings, stream: StreamSettings, worker_id: str, place: AwsEndpoints | None = None
    ) -> None:
        """``place`` has the endpoints of AWS; by default they come from the environment.

        :raises UserError: if Java or the jars are missing, or a property is wrong.
        """
        self._java, self._jars, self._our_jar = find_java(), find_jars(), aggregator.jar()
        self.aggregates_whole = asyncio.Event()
        """Set once the JVM has loaded our class, which delivers aggregates whole."""
        self._heap_mib = kcl.java_heap_mib
        self._run_folder = RunFolder()
        self._folder = self._run_folder.path
        self.socket_path = self._folder / "host.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        """Why this object has killed the JVM, if nobody asked for it."""
        try:
            place = place or AwsEndpoints.from_environment(os.environ)
            values = properties(kcl, stream, worker_id, " ".join(self._bridge_command()), place)
            self._properties = self._write("kcl.properties", render(values))
            self._logback = self._write("logback.xml", logback(kcl.log_level))
        except BaseException:
            self._run_folder.remove()
            raise

    @property
    def pid(self) -> int:
        """The process id of the JVM, which is also its process group. 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether the JVM has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the JVM and return; it takes leases seconds later.

        Call it from the main thread: on Linux the JVM dies with the thread that started it.
        """
        output, inherited = os.pipe()  # not asyncio's: with that, wait() waits for every process that inherits it
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=inherited,
                stderr=inherited,
                start_new_session=True,
                cwd=self._folder,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(inherited)
        lines = os.fdopen(output, "rb", 0)
        self._output = background.start(
            partial(_log_output, lines, self._heard), name="the log of the JVM", on_failure=self._unheard
        )
        reaper.awaits(self._process.pid)
        log.info("KCL started, JVM pid %d", self._process.pid)

    async def wait(self) -> int:
        """Wait for the end of the JVM. Returns its exit status, negative for a signal, after its output is logged."""
        if self._process is None or self._output is None:
            raise RuntimeError("wait() before start()")
        status = await self._process.wait()
        reaper.has_ended(self._process.pid)
        await asyncio.wait([self._output], timeout=OUTPUT_END_S)
        self._output.cancel()
        await asyncio.wait([self._output])
        if status == OUT_OF_MEMORY:
            log.error("the JVM ran out of heap. Raise kcl.java_heap_mib: %d is not enough", self._heap_mib)
        return status

    async def check_aggregator(self, reads: Callable[[], bool]) -> None:
        """Check that KCL uses our class. Never returns normally. ``reads`` says whether a shard is being read.

        The protocol also refuses every record that another class has taken apart.

        :raises Fatal: if a shard is read and KCL has not loaded our class.
        """
        while not self.aggregates_whole.is_set():
            began = reads()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOADED_S):
                    await self.aggregates_whole.wait()
            if began and not self.aggregates_whole.is_set():
                raise Fatal(
                    "KCL has loaded another AggregatorUtil than Penstock's, which takes aggregates apart without a "
                    "memory limit. Remove it from CLASSPATH and JAVA_TOOL_OPTIONS, or install Penstock again"
                )
        await asyncio.Event().wait()

    def terminate(self) -> None:
        """Send SIGTERM to the JVM. It asks every shard to drain (``shutdownRequested``) and then exits."""
        if self.running and self._process:
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the JVM and every bridge. Does nothing if they are gone."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _unheard(self, error: BaseException) -> None:
        """Kill a JVM whose output can no longer be read: it would block as soon as the pipe is full."""
        self.failure = error
        self.kill()

    def _heard(self, line: str) -> bool:
        """Return whether a line of the JVM's output is a signal of our class and not for the log.

        Records after skipped ones must not be checkpointed, so the JVM and its bridges are killed first.
        """
        if tells_of_skipped_records(line):
            log.error("KCL has skipped records that it could not deliver; the JVM is killed, and they are read again")
            self.kill()
        if line.strip() != aggregator.SERVES:
            return False
        self.aggregates_whole.set()
        return True

    async def close(self) -> None:
        """Kill what is left and remove the runtime folder."""
        if self._process:
            self.kill()
            await self.wait()
        self._run_folder.remove()

    def _command(self) -> list[str]:
        held = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
        arguments = ["--properties-file", str(self._properties), "--log-configuration", str(self._logback)]
        return [
            *held,
            str(self._java),
            *self._flags(),
            "-cp",
            f"{self._our_jar}{os.pathsep}{self._jars}/*",
            MAIN_CLASS,
            *arguments,
        ]

    def _flags(self) -> list[str]:
        """Flags for low memory and a quick start. UTF-8 is not the default encoding of Java 17."""
        return [
            f"-Xms{min(SMALL_HEAP_MIB, self._heap_mib)}m",
            f"-Xmx{self._heap_mib}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-Dfile.encoding=UTF-8",
            "-Dstdout.encoding=UTF-8",
        ]

    def _bridge_command(self) -> Sequence[str]:
        """The command of a bridge. KCL splits it at spaces, without quoting, so paths with spaces get a symbolic
        link."""
        python, script = (
            self._without_spaces(sys.executable, "python"),
            self._without_spaces(bridge.__file__, "bridge.py"),
        )
        return [python, "-I", "-S", script, str(self.socket_path)]

    def _without_spaces(self, path: str, name: str) -> str:
        if not any(character.isspace() for character in path):
            return path
        link = self._folder / name
        link.symlink_to(path)
        return str(link)

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return path


async def _log_output(pipe: FileIO, heard: Callable[[str], bool]) -> None:
    """Log the output until its end, when the JVM and every process that inherited the pipe are gone."""
    lines = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), pipe)
    kcl_log = KclLog()
    try:
        while line := await _next_line(lines, kcl_log):
            text = line.decode("utf-8", "replace")
            if not heard(text):
                kcl_log.feed(text)
    finally:
        kcl_log.close()
        transport.close()


async def _next_line(lines: asyncio.StreamReader, kcl_log: KclLog) -> bytes:
    """The next line, empty at the end. Logs an open record if the output pauses."""
    while True:
        try:
            async with asyncio.timeout(QUIET_S if kcl_log.pending else None):
                return await lines.readline()
        except TimeoutError:
            kcl_log.flush()
        except ValueError:
            log.warning("KCL wrote a line of more than %d bytes; it is dropped", LINE_LIMIT_BYTES)

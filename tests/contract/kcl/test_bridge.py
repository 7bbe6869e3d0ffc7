"""The bridge as KCL starts it: a real process with two pipes and a Unix socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from consumer.kcl import bridge

MESSAGE_BYTES = 14 * 1024 * 1024
DEADLINE_S = 30.0


@dataclass
class Ends:
    """The JVM's end of a bridge (its pipes) and the host's end (its connection)."""

    process: subprocess.Popen[bytes]
    host: socket.socket
    stdin: IO[bytes]
    stdout: IO[bytes]

    def exit_status(self) -> int:
        return self.process.wait(DEADLINE_S)


def start(socket_path: Path | str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", bridge.__file__, str(socket_path)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


TOKEN = b"t" * bridge.TOKEN_BYTES


@contextmanager
def connected(folder: Path) -> Iterator[Ends]:
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(folder / "s"))
        server.listen(1)
        (folder / "s.token").write_bytes(TOKEN)
        server.settimeout(DEADLINE_S)
        with start(folder / "s") as process:
            try:
                host, _ = server.accept()
                with host:
                    host.settimeout(DEADLINE_S)
                    assert receive(host, len(TOKEN)) == TOKEN
                    assert process.stdin is not None
                    assert process.stdout is not None
                    yield Ends(process, host, process.stdin, process.stdout)
            finally:
                process.kill()


def receive(host: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count and (chunk := host.recv(1 << 20)):
        received += chunk
    return bytes(received)


def in_thread(call: Callable[..., object], *arguments: object) -> threading.Thread:
    """A thread that may find its pipe broken; other assertions check the consequence."""

    def run() -> None:
        with suppress(OSError):
            call(*arguments)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def write_all(stream: IO[bytes], data: bytes) -> None:
    stream.write(data)
    stream.flush()


def say_and_go(host: socket.socket, words: bytes) -> None:
    host.sendall(words)
    host.close()


def rss_mb(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1]) / 1024


def test_lines_pass_both_ways_byte_for_byte(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        write_all(ends.stdin, b'{"action":"initialize"}\n\x00\xff\r\n')
        assert receive(ends.host, 28) == b'{"action":"initialize"}\n\x00\xff\r\n'
        ends.host.sendall(b"\nstatus\x80\n")
        assert ends.stdout.read(9) == b"\nstatus\x80\n"


def test_fourteen_megabytes_pass_both_ways_at_once(tmp_path: Path) -> None:
    down, up = os.urandom(MESSAGE_BYTES), os.urandom(MESSAGE_BYTES)
    with connected(tmp_path) as ends:
        threads = [in_thread(write_all, ends.stdin, down), in_thread(ends.host.sendall, up)]
        got: list[bytes] = []
        reader = in_thread(lambda: got.append(ends.stdout.read(MESSAGE_BYTES)))
        assert receive(ends.host, MESSAGE_BYTES) == down
        for thread in [*threads, reader]:
            thread.join(DEADLINE_S)
        assert got == [up]


def test_a_host_that_does_not_read_can_still_write(tmp_path: Path) -> None:
    """KCL is blocked in the middle of a message; the host still answers an earlier one, and then reads on."""
    message = os.urandom(MESSAGE_BYTES)
    with connected(tmp_path) as ends:
        writer = in_thread(write_all, ends.stdin, message)
        ends.host.sendall(b"checkpoint\n")
        assert ends.stdout.readline() == b"checkpoint\n"
        assert writer.is_alive()
        assert receive(ends.host, MESSAGE_BYTES) == message
        writer.join(DEADLINE_S)


def test_a_jvm_that_does_not_read_can_still_write(tmp_path: Path) -> None:
    answer = os.urandom(MESSAGE_BYTES)
    with connected(tmp_path) as ends:
        sender = in_thread(ends.host.sendall, answer)
        write_all(ends.stdin, b"message\n")
        assert receive(ends.host, 8) == b"message\n"
        assert sender.is_alive()
        assert ends.stdout.read(MESSAGE_BYTES) == answer
        sender.join(DEADLINE_S)


def test_the_end_of_stdin_reaches_the_host_and_its_last_words_the_jvm(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        write_all(ends.stdin, b"last\n")
        ends.stdin.close()
        assert receive(ends.host, 100) == b"last\n"
        words = os.urandom(MESSAGE_BYTES)
        sender = in_thread(say_and_go, ends.host, words)
        assert ends.stdout.read() == words
        sender.join(DEADLINE_S)
        assert ends.exit_status() == 0


def test_it_goes_when_the_host_goes(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        write_all(ends.stdin, b"unread\n")
        ends.host.close()
        assert ends.exit_status() == 1
        assert ends.stdout.read() == b""


def test_it_goes_when_the_host_goes_in_the_middle_of_a_message(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        writer = in_thread(write_all, ends.stdin, os.urandom(MESSAGE_BYTES))
        receive(ends.host, 1)
        ends.host.close()
        assert ends.exit_status() == 1
        writer.join(DEADLINE_S)


def test_it_goes_when_the_host_goes_while_the_jvm_does_not_read(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        ends.host.setblocking(False)
        try:
            while True:
                ends.host.send(b"x" * 65536)
        except BlockingIOError:
            ends.host.close()
        assert ends.exit_status() == 1


def test_it_goes_when_the_host_says_that_it_will_say_no_more(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        ends.host.shutdown(socket.SHUT_WR)
        assert ends.exit_status() == 1


def test_the_bridge_ends_when_the_jvm_has_ended(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        ends.stdout.close()
        ends.host.sendall(b"nobody reads this\n")
        assert ends.exit_status() == 1


def test_a_signal_to_its_group_does_not_end_it(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        write_all(ends.stdin, b"ready?\n")
        receive(ends.host, 7)
        os.killpg(ends.process.pid, signal.SIGTERM)
        os.killpg(ends.process.pid, signal.SIGINT)
        write_all(ends.stdin, b"still there\n")
        assert receive(ends.host, 12) == b"still there\n"
        assert ends.process.poll() is None


def test_without_a_host_it_says_so_on_stderr_alone(tmp_path: Path) -> None:
    with start(tmp_path / "nobody") as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, output) == (1, b"")
    assert errors.count(b"\n") == 1
    assert b"nobody" in errors


def test_it_is_small(tmp_path: Path) -> None:
    with connected(tmp_path) as ends:
        payload = os.urandom(MESSAGE_BYTES)
        writer = in_thread(write_all, ends.stdin, payload)
        receive(ends.host, MESSAGE_BYTES)
        writer.join(DEADLINE_S)
        assert rss_mb(ends.process.pid) < 12


def test_it_is_quick_to_start(tmp_path: Path) -> None:
    """The fastest of several starts, because other load only makes a start slower."""
    seconds = []
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        began = time.perf_counter()
        with connected(folder):
            seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.05

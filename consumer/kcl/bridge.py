"""The child process that KCL starts for each shard: a pipe between the JVM and the host.

    python -I -S bridge.py SOCKET_PATH

Sends the token in ``SOCKET_PATH.token``, which authenticates it to the host. Then it copies stdin to the host's Unix
socket and the socket to stdout, byte for byte, both ways at once. There is one process per shard, so it imports only
modules that are compiled in, under their underscored names where the public module would import ten others. KCL ends
its whole JVM when a child dies, so no data may end a bridge:

- stdin ends (the JVM closes this child): copy what the host still sends, then exit 0;
- the socket ends or breaks (the host is gone): exit 1 at once, which ends the JVM;
- stdout breaks (the JVM is gone): exit 1.

SIGINT and SIGTERM are ignored. Otherwise a signal to the process group would interrupt the drain of this shard and,
through KCL, of every other shard of the task.
"""

import _signal  # type: ignore[import-not-found]  # compiled in, unknown to typeshed; `signal` costs 0.8 MB and 3 ms
import _socket
import os
import select
import sys

TOKEN_BYTES = 64

CHUNK_BYTES = 256 * 1024
"""Maximum bytes of one read. At most one chunk waits in each direction; the kernel applies back-pressure."""

STDIN, STDOUT = 0, 1
GONE = select.POLLHUP | select.POLLERR


class Copy:
    """One direction. ``pending`` has been read from ``source`` and not yet written to ``target``."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.pending = memoryview(b"")
        self.ended = False

    @property
    def reads(self) -> bool:
        """Whether ``source`` may be read now: everything read before has been written."""
        return not self.pending and not self.ended

    def step(self, readable: int) -> None:
        """Read and write as much as possible without waiting."""
        if readable and self.reads:
            chunk = os.read(self.source, CHUNK_BYTES)
            self.pending = memoryview(chunk)
            self.ended = not chunk
        if self.pending:
            try:
                self.pending = self.pending[os.write(self.target, self.pending) :]
            except BlockingIOError:
                return  # poll reports when it is writable


def wait(to_host: Copy, to_jvm: Copy) -> dict[int, int]:
    """Wait for the next events and return them by file descriptor.

    A descriptor with nothing to do is left out; otherwise poll would return at once after its end.
    """
    poll = select.poll()
    host = select.POLLIN * to_jvm.reads | select.POLLOUT * bool(to_host.pending)
    if host or not to_host.ended:
        poll.register(to_jvm.source, host)
    if to_host.reads:
        poll.register(to_host.source, select.POLLIN)
    if to_jvm.pending:
        poll.register(to_jvm.target, select.POLLOUT)
    return dict(poll.poll())


def copy_both_ways(host: _socket.socket) -> int:
    """Copy until one of the ends closes; returns the exit status."""
    to_host, to_jvm = Copy(STDIN, host.fileno()), Copy(host.fileno(), STDOUT)
    shut = False
    while True:
        events = wait(to_host, to_jvm)
        if events.get(host.fileno(), 0) & GONE and not to_host.ended:
            return 1
        to_host.step(events.get(STDIN, 0))
        to_jvm.step(events.get(host.fileno(), 0) & (select.POLLIN | GONE))
        if to_jvm.ended:
            return 0 if to_host.ended else 1
        if to_host.ended and not shut:
            host.shutdown(_socket.SHUT_WR)
            shut = True


def token_beside(socket_path: str) -> bytes:
    """Read the token of the host; see :mod:`consumer.kcl.socket_auth`."""
    descriptor = os.open(socket_path + ".token", os.O_RDONLY)
    try:
        return os.read(descriptor, TOKEN_BYTES)
    finally:
        os.close(descriptor)


def main(socket_path: str) -> int:
    """Run the bridge and return its exit code."""
    for ignored in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(ignored, _signal.SIG_IGN)
    host = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        token = token_beside(socket_path)
        host.connect(socket_path)
        host.sendall(token)
        for descriptor in (STDIN, STDOUT, host.fileno()):
            os.set_blocking(descriptor, False)
        return copy_both_ways(host)
    except OSError as error:
        os.write(2, f"bridge: {error} ({socket_path})\n".encode())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

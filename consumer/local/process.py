"""A local AWS as a child process, for the demo and tests."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.errors import PenstockError

READY_S = 30.0
LEAVE_S = 5.0
REGION = "us-east-1"
ROOT = Path(__file__).parents[2]


class LocalAWS:
    """A context manager that runs a local AWS on the loopback interface. ``port`` 0 is a free port.

    The server ends on exit, and also if this process dies, because its standard input closes. It has its own process
    group, so Ctrl-C in a terminal does not reach it.

    :raises PenstockError: on entry, if the server does not start within 30 s.
    """

    def __init__(self, *, limits: bool = True, port: int = 0) -> None:
        self._arguments = ["--port", str(port), "--limits", "on" if limits else "off", "--until-stdin-closes"]
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._clients.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "consumer.local", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        )
        try:
            self.endpoint = self._ready_line()["endpoint"]
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _ready_line(self) -> dict[str, Any]:
        """Return the JSON line that the server prints when it is ready."""
        assert self._process is not None
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], READY_S)
        if not readable:
            raise PenstockError(f"The local AWS did not start within {READY_S:.0f} s.")
        line = self._process.stdout.readline()
        if not line:
            raise PenstockError(f"The local AWS did not start: exit code {self._process.wait(READY_S)}.")
        made: dict[str, Any] = json.loads(line)
        return made

    @property
    def pid(self) -> int:
        """The process id of the server. Only within the ``with`` block."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End the server and wait for its exit. Does nothing before the start."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    # -- for its clients

    @property
    def env(self) -> dict[str, str]:
        """The environment variables with which the AWS clients of a process use this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
        }

    def client(self, service: str, **options: Any) -> Any:
        """Return a boto3 client of this server, independent of the environment of this process.

        Without ``options`` a service has one client, which is made once.
        """
        if not options:
            if service not in self._clients:
                self._clients[service] = self._new_client(service, {})
            return self._clients[service]
        return self._new_client(service, options)

    def _new_client(self, service: str, options: dict[str, Any]) -> Any:
        import boto3
        from botocore.config import Config

        direct = Config(proxies={})
        options["config"] = direct.merge(options["config"]) if "config" in options else direct
        return boto3.client(
            service,  # type: ignore[call-overload]  # any service
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106  # not a secret
            **options,
        )

    def calls(self, *, forget: bool = False) -> dict[str, dict[str, int]]:
        """Return the number of requests per service and operation. ``forget`` resets the counts afterwards."""
        counted: dict[str, dict[str, int]] = self._control("DELETE" if forget else "GET", "calls")
        return counted

    def asked(self, access_key: str) -> list[dict[str, Any]]:
        """Return the requests that were signed with this access key, since :meth:`calls` last forgot them.

        Each ``service``, ``operation`` and ``resource`` is listed once: see
        :class:`consumer.local.access.AccessCounts`.
        """
        listed: list[dict[str, Any]] = self._control("GET", "asked")
        return [each for each in listed if each["access_key"] == access_key]

    # -- faults

    @contextlib.contextmanager
    def faults(self, **rule: Any) -> Iterator[dict[str, Any]]:
        """A context manager that keeps a fault in force; see :class:`consumer.local.faults.FaultRule` for the fields.

        Yields the rule. On exit the rule gets its ``hits``, and requests that it stalls go on.
        """
        fault = self.add_fault(**rule)
        try:
            yield fault
        finally:
            for ended in self._control("DELETE", f"faults/{fault['id']}"):
                fault.update(ended)

    def add_fault(self, **rule: Any) -> dict[str, Any]:
        """Put a fault in force and return it with its ``id``.

        :raises ValueError: if the rule is invalid.
        """
        made: dict[str, Any] = self._control("POST", "faults", rule)
        return made

    def list_faults(self) -> list[dict[str, Any]]:
        """Return the faults in force, with their ``hits``."""
        listed: list[dict[str, Any]] = self._control("GET", "faults")
        return listed

    def clear_faults(self) -> None:
        """End all faults. Requests that they stall go on."""
        self._control("DELETE", "faults")

    def _control(self, method: str, path: str, rule: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310  # our own endpoint
            f"{self.endpoint}/_penstock/{path}", method=method, data=json.dumps(rule).encode() if rule else None
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=READY_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["message"]) from None

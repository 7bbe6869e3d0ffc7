"""The local AWS as a process of its own, for the demo and the tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.errors import PenstockError

_ROOT = Path(__file__).resolve().parents[2]
READY_S = 30


class LocalAWS:
    """A local AWS that lives as long as the ``with`` block, and never longer than this process.

    ``limits``: whether its shards have AWS's limits of records and bytes a second.

    :raises PenstockError: it did not start; the text holds what it said.
    """

    def __init__(self, limits: bool = True) -> None:
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "consumer.local", "--limits", "on" if limits else "off"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PenstockError(f"the local AWS did not start: exit code {self._process.wait()}")
        said = json.loads(line)
        self.endpoint: str = said["endpoint"]
        self.region: str = said["region"]
        self.pid: int = said["pid"]
        self.client = cache(self._client)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment for every AWS call to come here."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _client(self, service: str) -> Any:
        """A boto3 client of this AWS, whatever the environment says; made once per service."""
        import boto3

        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106  # nobody checks it
        )

    @contextlib.contextmanager
    def faults(self, **rule: Any) -> Iterator[str]:
        """Have requests fail as ``rule`` says (see :class:`consumer.local.faults.Rule`) within the ``with`` block."""
        rule_id = self._admin("POST", "", rule)["id"]
        try:
            yield rule_id
        finally:
            self._admin("DELETE", f"/{rule_id}")

    def _admin(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/_penstock/faults{path}", data, method=method)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # our own endpoint
            return json.load(answer)

    def close(self) -> None:
        """End it, which takes well under a second. Safe to call again."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

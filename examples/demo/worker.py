"""One consumer process of the demo: its figures, and the errors in its log."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Worker:
    """One consumer process, its log file, and the URL of its health server once it is known."""

    process: subprocess.Popen[bytes]
    log: Path
    health: str = ""

    def stats(self) -> dict[str, Any]:
        """Return the worker's totals; empty until its health server answers."""
        self.health = self.health or _logged(self.log, "health")
        totals: dict[str, Any] = json.loads(self._asked("/stats") or b"{}")
        return totals

    def save_metrics(self) -> None:
        """Write the worker's ``/metrics`` beside its log; they cannot be read after it has left."""
        self.log.with_suffix(".prom").write_bytes(self._asked("/metrics"))

    def _asked(self, path: str) -> bytes:
        if not self.health:
            return b""
        try:
            with urllib.request.urlopen(f"{self.health}{path}", timeout=2) as answer:  # noqa: S310  # our own, loopback
                body: bytes = answer.read()
                return body
        except OSError:
            return b""


def _logged(log: Path, field: str) -> str:
    for line in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(entry := json.loads(line), dict) and field in entry:
                return str(entry[field])
    return ""


def last_error(log: Path) -> str:
    """Return the worker's last error, or its last line if there is none."""
    lines = log.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("level") in {"ERROR", "CRITICAL"}:
                return str(entry.get("msg"))
        if line.startswith("penstock: "):
            return line.removeprefix("penstock: ")
    return lines[-1] if lines else "its log is empty"

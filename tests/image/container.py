"""A container as ECS would run it, by runc: the image's user and command, a read-only root, /tmp, processes of its own.

The network is that of this machine, on whose loopback interface the local AWS is.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from deploy.image import build

RUNC = ("runc", "--root", str(build.PLACE / "runc"))
SHARED = ("/etc/hosts", "/etc/resolv.conf")
"""Files that every container runtime gives a container."""

NAMESPACES = ("pid", "ipc", "uts", "mount")


@contextlib.contextmanager
def root_of(image: str) -> Iterator[Path]:
    """The image's files, mounted."""
    container = build.output([*build.storage(), "from", "--pull-never", image]).strip()
    try:
        yield Path(build.output([*build.storage(), "mount", container]).strip())
    finally:
        subprocess.run([*build.storage(), "rm", container], check=True, stdout=subprocess.DEVNULL)


def specification(
    image: Mapping[str, Any], root: Path, environment: Mapping[str, str], memory_mib: int
) -> dict[str, Any]:
    """What the runtime is told. ``image``: what the image says of itself."""
    uid, _, gid = image["User"].partition(":")
    variables = dict(each.split("=", 1) for each in image["Env"]) | {"HOME": "/home/penstock", **environment}
    process = {
        "terminal": False,
        "user": {"uid": int(uid), "gid": int(gid)},
        "args": [*image["Entrypoint"], *image["Cmd"]],
        "env": [f"{name}={value}" for name, value in variables.items()],
        "cwd": image["WorkingDir"],
        "capabilities": {},
        "noNewPrivileges": True,
    }
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "hostname": "penstock",
        "mounts": mounts(image["Volumes"]),
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": {"memory": {"limit": memory_mib << 20}},
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    }


def mounts(volumes: Sequence[str] | Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a runtime always mounts, and a writable folder for each volume of the image."""
    quiet = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*quiet, "mode=1777"]},
        {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", *quiet, "ro"]},
        *({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}
          for path in volumes),
        *({"destination": path, "type": "bind", "source": path, "options": ["bind", "ro"]} for path in SHARED),
    ]  # fmt: skip


class Container:
    """One running container. Use it as a context manager: nothing of it is left afterwards."""

    def __init__(self, name: str, folder: Path, specification: Mapping[str, Any]) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(specification, indent=2))
        self.log = folder / "log.jsonl"
        self.asked = time.time()
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*RUNC, "run", "--bundle", str(folder), name],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.kill("KILL")
            self.process.wait()
        subprocess.run([*RUNC, "delete", "--force", self.name], check=False, stderr=subprocess.DEVNULL)

    def entries(self) -> list[dict[str, Any]]:
        """Its log so far, line by line."""
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def began(self) -> float:
        """When its first process was made, in seconds since the epoch."""
        state = json.loads(build.output([*RUNC, "state", self.name]))
        return float(psutil.Process(state["pid"]).create_time())

    def runs(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside its process, as its user."""
        return subprocess.run(
            [*RUNC, "exec", self.name, *command], capture_output=True, text=True, check=False, timeout=60
        )

    def kill(self, signal: str) -> None:
        """Send a signal to its process with id 1."""
        subprocess.run([*RUNC, "kill", self.name, signal], check=True)

    def leave(self, deadline_s: float) -> tuple[int, float]:
        """SIGTERM to process 1. Return the exit code, and the seconds that it took."""
        asked = time.monotonic()
        self.kill("TERM")
        return self.process.wait(deadline_s), time.monotonic() - asked


def free_of(folder: Path) -> None:
    """Remove what an interrupted run left."""
    if not folder.exists():
        return
    for name in os.listdir(folder):
        subprocess.run([*RUNC, "delete", "--force", name], check=False, stderr=subprocess.DEVNULL)

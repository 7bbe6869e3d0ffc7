"""Memory: what a replica may take, how it is held to that, and how large a batch may be once one did not fit.

What is held is the private writable memory of a replica, by ``RLIMIT_DATA`` (setrlimit(2): since Linux 4.7 it counts
private writable mappings, not only the heap). Memory-mapped weights are the page cache's, which the kernel takes back
when it must, so they do not count. On other systems, and where the model computes on a GPU, whose driver reserves far
more than it takes, there is no limit.
"""

from __future__ import annotations

import errno
import gc
import re
import sys
import traceback
from pathlib import Path

from pipeline.errors import ConfigError, ModelError, PenstockError
from pipeline.model import Reject

MIB = 1024 * 1024

JVM_MIB = 192
"""What a JVM takes beside its heap: classes, compiled code, threads, network buffers."""
HOST_MIB = 512
"""The host (about 150), a bridge for each of ten shards (10 each), the process that measures costs (up to 250)."""
LEAST_MIB = 128
"""Less is too little for any model: an interpreter with numpy and pyarrow takes 30, with torch 160."""
ROOM_MIB = 32
"""What a loaded model must have left at least, to predict with."""

UNLIMITED_BYTES = 2**60
"""cgroup v1 has no word for it: it says the largest whole number of pages."""

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
"""Mapped by whoever computes on a GPU."""

WORDS = (
    "can't allocate memory",
    "out of memory",
    "could not create a primitive",
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "cannot allocate memory",
    "resource_exhausted",
    "resource exhausted",
    "not enough memory",
    "insufficient memory",
)
"""Of torch's allocator on CPUs, of CUDA, of oneDNN, of C++, ONNX Runtime and TensorFlow: exceptions of many types."""

SHORT = 0.9
"""A call that fails with so much of its memory taken has failed for want of it, whatever it says."""

_base_bytes = 0
"""What this process had reserved when its memory was limited."""

FIRST_TO_GO = "1000"
"""The highest ``oom_score_adj`` (proc(5)); a process may always raise its own."""


def share_mib(task_mib: int | None, *, heap_mib: int, window_mib: int, replicas: int) -> int:
    """What each replica may take of a task that has ``task_mib``; 0, no limit, if nobody knows what it has.

    ``ConfigError``, with the sum, if it is too little.
    """
    if task_mib is None:
        return 0
    left_mib = task_mib - heap_mib - JVM_MIB - window_mib - HOST_MIB
    share = left_mib // replicas
    if share >= LEAST_MIB:
        return share
    taken = f"kcl.java_heap_mib {heap_mib} + {JVM_MIB} for the JVM + window.mib {window_mib} + {HOST_MIB} for the host"
    raise ConfigError(
        "model.memory_mib",
        f"of the task's {task_mib} MiB, {taken} leave {max(0, left_mib)} for {replicas} "
        f"replica{'s' * (replicas > 1)}, which need {LEAST_MIB} each",
        "Give the task more memory, lower kcl.java_heap_mib, window.mib or model.replicas, or set it (0: no limit)",
    )


def task_mib(root: Path = Path("/")) -> int | None:
    """The container's memory limit, or the machine's memory if that is less; None where nobody says.

    A cgroup is held by its parents' limits too, so the least of them counts. Of cgroup v2 and v1, as cgroups(7) has
    them; inside a container the paths in ``/proc/self/cgroup`` may be the host's, and only the top is there.
    """
    sizes = [size for size in (_machine_bytes(root), *_limits(root)) if size is not None and size < UNLIMITED_BYTES]
    return min(sizes) // MIB if sizes else None


def _machine_bytes(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(root / "proc" / "meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _limits(root: Path) -> list[int | None]:
    mounts = root / "sys" / "fs" / "cgroup"
    limits = []
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = mounts, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = mounts / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = top / path.lstrip("/")
        limits += [_bytes(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return limits


def _bytes(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


# -- in the replica


def volunteer() -> None:
    """When the container as a whole runs out, the kernel takes this process, and not the host or the JVM."""
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    except OSError:  # another system, or a container that hides it: then the kernel takes whom it will
        return


def confine(limit_mib: int) -> str:
    """Hold this process to ``limit_mib`` from now on; to be called once the model is loaded. A line for the log.

    The limit is set so far above what is reserved now as the process is below its own: what it has reserved without
    using it (pyarrow's allocator takes a GiB), and weights that are mapped privately and never written (as safetensors
    maps them for torch), cost it nothing. ``ModelError`` if the model has taken nearly everything already.
    """
    if not limit_mib:
        return "memory is not limited: model.memory_mib is 0"
    if sys.platform != "linux":
        return "memory is not limited: this system cannot count what a process takes"
    if on_gpu(_text(Path("/proc/self/maps"))):
        return "memory is not limited: the model computes on a GPU"
    import resource

    status = _text(Path("/proc/self/status"))
    held, reserved = _kib(status, "RssAnon") * 1024, _kib(status, "VmData") * 1024
    if not held or not reserved:
        return "memory is not limited: the kernel does not tell what a process takes"
    room = limit_mib * MIB - held
    if room < ROOM_MIB * MIB:
        raise ModelError(
            f"model.memory_mib: loaded, the model takes {held // MIB} MiB of the {limit_mib} that a replica may have, "
            "which leaves too little to predict with. Raise it, or give the task more memory"
        )
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    global _base_bytes  # noqa: PLW0603  # as the limit is, it is the process's
    _base_bytes = reserved
    wanted = reserved + room
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    return f"memory is limited to {limit_mib} MiB, of which the loaded model takes {held // MIB}"


def ran_out(error: BaseException) -> bool:
    """Whether it is Python's, the system's, torch's or CUDA's way to say so, or was raised because of one."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    of_a_library = isinstance(error, Exception) and type(error).__module__ != "builtins"
    if isinstance(error, RuntimeError) or (of_a_library and not isinstance(error, PenstockError | Reject)):
        text = str(error).lower()
        if any(words in text for words in WORDS):
            return True
    return error.__cause__ is not None and ran_out(error.__cause__)


def is_short() -> bool:
    """Whether this process has taken nearly all that it may since it was limited."""
    if not _base_bytes:
        return False
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _kib(_text(Path("/proc/self/status")), "VmData") * 1024 - _base_bytes
    return taken > SHORT * (soft - _base_bytes)


def give_back(error: BaseException) -> None:
    """Free what the failed call still holds, tensors say: its traceback holds them."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_gpu(maps: str) -> bool:
    """Whether a process with these ``/proc/self/maps`` has opened one."""
    return any(device in maps for device in DEVICES)


def _kib(status: str, name: str) -> int:
    """Of ``/proc/self/status``."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0


# -- in the host

CREEP_PASSES = 64
"""So many batches near the limit must pass before it is raised by an eighth."""


class SafeCost:
    """How much a batch may cost so that it fits into memory, as far as batches have told. Pure.

    A batch of several records that ran out of memory halves it. It creeps up again while batches that use it pass, and
    is forgotten once it is where it began. So a model whose memory is short settles near what fits, at the price of a
    try in a few hundred, and one large record among small ones is not paid for by all who come later. A record that is
    tried alone teaches nothing about how many may go together.
    """

    def __init__(self) -> None:
        self.limit = 0
        """The most that a batch of several records may cost; 0: nothing is known."""
        self._failed = 0  # the largest cost that ran out since nothing was known
        self._passes = 0

    def ran_out(self, records: int, cost: int) -> None:
        if records < 2:
            return
        half = max(1, cost // 2)
        self.limit = min(self.limit or half, half)
        self._failed = max(self._failed, cost)
        self._passes = 0

    def passed(self, records: int, cost: int, *, after: bool = False) -> None:
        """``after``: it is of a batch that ran out, tried by parts, and so tells that it is not too large."""
        if after and records > 1 and cost > self.limit:
            self._raise(cost)
        elif cost * 2 >= self.limit:
            self._passes += 1
            if self._passes == CREEP_PASSES:
                self._raise(self.limit + max(1, self.limit // 8))

    def _raise(self, limit: int) -> None:
        if self.limit:
            self.limit, self._passes = limit, 0
        if limit >= self._failed:
            self.limit = self._failed = 0

"""How a replica is held to its share of memory.

What is held is its private writable memory, by ``RLIMIT_DATA`` (setrlimit(2): since Linux 4.7 it counts private
writable mappings, not only the heap). Memory-mapped weights are the page cache's, which the kernel takes back when it
must, so they do not count. On other systems, and where the model computes on a GPU, whose driver reserves far more than
it takes, there is no limit.
"""

from __future__ import annotations

import errno
import gc
import re
import sys
import traceback
from pathlib import Path

from pipeline.errors import ModelError, PenstockError, causes, is_a, name_of, text_of
from pipeline.machine.memory import MIB, _text
from pipeline.model import Reject

ROOM_MIB = 32
"""What a loaded model must have left at least, to predict with."""

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

READ_LIMIT = 1_000_000
"""Characters of an exception's text that are looked through for them."""

SHORT = 0.9
"""A call that fails with so much of its memory taken has failed for want of it, whatever it says."""

_base_bytes = 0
"""What this process had reserved when its memory was limited."""

FIRST_TO_GO = "1000"
"""The highest ``oom_score_adj`` (proc(5)); a process may always raise its own."""


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
    return any(map(_says_so, causes(error)))


def _says_so(error: BaseException) -> bool:
    kind = type(error)
    if is_a(error, MemoryError) or name_of(kind) == "OutOfMemoryError":
        return True
    if is_a(error, OSError) and OSError.__dict__["errno"].__get__(error) == errno.ENOMEM:
        return True
    of_a_library = is_a(error, Exception) and kind.__module__ != "builtins"
    if is_a(error, RuntimeError) or (of_a_library and not is_a(error, PenstockError, Reject)):
        text = text_of(error, READ_LIMIT).lower()
        return any(words in text for words in WORDS)
    return False


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

"""Limits the memory of a replica.

The limit is on its private writable memory, by ``RLIMIT_DATA`` (setrlimit(2): since Linux 4.7 it counts private
writable mappings, not only the heap). Memory-mapped weights do not count: they are in the page cache, which the kernel
can reclaim. There is no limit on other systems, nor on a GPU, whose driver reserves far more memory than it uses.
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
"""MiB that must be left once the model is loaded."""

DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
"""A process that computes on a GPU has one of these files mapped."""

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
"""Texts of out-of-memory errors of torch's CPU allocator, CUDA, oneDNN, C++, ONNX Runtime and TensorFlow, which
raise exceptions of many types.
"""

READ_LIMIT = 1_000_000
"""Characters of an exception's text that are searched for these words."""

SHORT = 0.9
"""A call that fails while this share of the memory is taken is treated as out of memory, whatever its error says."""

_base_bytes = 0
"""Bytes that this process had reserved when its memory was limited."""

FIRST_TO_GO = "1000"
"""The highest ``oom_score_adj`` (proc(5)); a process may always raise its own."""


# -- in the replica


def prefer_for_oom_kill() -> None:
    """Ask the kernel to kill this process first when the container runs out of memory, not the host or the JVM."""
    try:
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    except OSError:  # another system, or a container that hides the file: the kernel then chooses by itself
        return


def confine(limit_mib: int) -> str:
    """Limit this process's memory to ``limit_mib`` (0: no limit). Call it once the model is loaded. Returns a line for
    the log.

    Memory that is reserved and not used does not count: pyarrow's allocator reserves a GiB, and safetensors maps
    weights privately without writing to them. So the limit is what is reserved now plus the unused rest of
    ``limit_mib``.

    :raises ModelError: the loaded model leaves less than :data:`ROOM_MIB`.
    """
    if not limit_mib:
        return "memory is not limited: model.memory_mib is 0"
    if sys.platform != "linux":
        return "memory is not limited: only Linux can limit what a process takes"
    if on_gpu(_text(Path("/proc/self/maps"))):
        return "memory is not limited: the model computes on a GPU"
    import resource

    status = _text(Path("/proc/self/status"))
    held, reserved = _kib(status, "RssAnon") * 1024, _kib(status, "VmData") * 1024
    if not held or not reserved:
        return "memory is not limited: the kernel does not report what a process takes"
    room = limit_mib * MIB - held
    if room < ROOM_MIB * MIB:
        raise ModelError(
            f"model.memory_mib: the loaded model takes {held // MIB} of the {limit_mib} MiB that a replica may use, "
            "which leaves too little to predict with. Raise it, or give the task more memory"
        )
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    global _base_bytes  # noqa: PLW0603  # the limit belongs to the process
    _base_bytes = reserved
    wanted = reserved + room
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    return f"memory is limited to {limit_mib} MiB; the loaded model takes {held // MIB}"


def ran_out(error: BaseException) -> bool:
    """Whether the error, or one that caused it, says that memory ran out, in the words of any known library. Never
    raises.
    """
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
    """Whether this process has used nearly all the memory it may use since it was limited."""
    if not _base_bytes:
        return False
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _kib(_text(Path("/proc/self/status")), "VmData") * 1024 - _base_bytes
    return taken > SHORT * (soft - _base_bytes)


def give_back(error: BaseException) -> None:
    """Free what a failed call still holds, such as tensors, by clearing the frames of the error's traceback."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def on_gpu(maps: str) -> bool:
    """Whether a process with this content of ``/proc/self/maps`` uses a GPU."""
    return any(device in maps for device in DEVICES)


def _kib(status: str, name: str) -> int:
    """Read a value of ``/proc/self/status``, in KiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) if found else 0

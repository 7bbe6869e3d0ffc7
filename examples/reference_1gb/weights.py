"""Random weights, written once: a safetensors file made tensor by tensor, so that 1 GB is never in memory.

Types smaller than float32 are rounded here, from the same numbers, and not in the replicas, so that replicas share the
file's pages.

Format: 8 bytes of header size (little-endian), a JSON header, then the tensors end to end
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError

SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
NAMES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8"}
"""The format's names of the types."""
DEVIATION = 0.02
"""Standard deviation of the normal distribution that BERT's weights start from."""


SETTLED_NS = 1_000_000_000
"""A file that changed less than this long ago is not noted: the kernel's clock is coarse, and a second change within
a tick would not be seen.
"""


@dataclass(frozen=True, slots=True)
class WeightsPlan:
    """What is in the file. Equal plans make equal bytes.

    ``dtype``: ``float32``; ``bfloat16``, rounded to the nearest; or ``int8`` for the layers' matrices, each with a
    float32 scale for each row in ``<name>_scale``, while all other tensors are float32.
    """

    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    dtype: str = "float32"

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return len(self.header()) + sum(SIZES[dtype] * math.prod(shape) for _, dtype, shape in self._parts())

    def header(self) -> bytes:
        """Return everything before the first tensor, padded so that tensors begin on a cache line."""
        entries: dict[str, object] = {"__metadata__": {"format": "pt", "seed": str(self.seed)}}
        start = 0
        for name, dtype, shape in self._parts():
            end = start + SIZES[dtype] * math.prod(shape)
            entries[name] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": (start, end)}
            start = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % 64)
        return len(text).to_bytes(8, "little") + text

    def tensors(self) -> Iterator[bytes]:
        """Yield each tensor's bytes. Each has its own random generator, so it does not depend on those before it."""
        for number, (name, shape) in enumerate(self.shapes.items()):
            if name.endswith(".bias"):
                values = np.zeros(shape, "<f4")
            elif name.endswith("LayerNorm.weight"):
                values = np.ones(shape, "<f4")
            else:
                values = np.random.default_rng((self.seed, number)).standard_normal(shape, "f4")
                values = (values * np.float32(DEVIATION)).astype("<f4")
            if self._quantised(name):
                yield from _rows_of_bytes(values)
            else:
                yield (values if self.dtype != "bfloat16" else _halves(values)).tobytes()

    def _parts(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield each tensor's name, type and shape."""
        for name, shape in self.shapes.items():
            if self._quantised(name):
                yield name, "int8", shape
                yield f"{name}_scale", "float32", shape[:1]
            else:
                yield name, "float32" if self.dtype == "int8" else self.dtype, shape

    def _quantised(self, name: str) -> bool:
        return self.dtype == "int8" and name.startswith("encoder.") and len(self.shapes[name]) > 1


def _halves(values: np.ndarray) -> np.ndarray:
    """Round to bfloat16, the upper half of a float32's bits: to the nearest, ties to even."""
    bits = values.view("<u4")
    upper: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return upper


def _rows_of_bytes(values: np.ndarray) -> Iterator[bytes]:
    """Yield the matrix in whole numbers from -127 to 127, then each row's scale."""
    scales = np.abs(values).max(axis=1) / np.float32(127)
    yield np.rint(values / scales[:, None]).astype("i1").tobytes()
    yield scales.astype("<f4").tobytes()


def write(path: Path, plan: WeightsPlan, progress: Callable[[int], None] = lambda written_bytes: None) -> str:
    """Make the file, whole or not at all, even if other processes make it at the same time. Return its SHA-256, which
    is recorded next to it.

    :raises ModelError: it cannot be written there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _write(unfinished, plan, progress)
        # The hash first: a crash in between leaves a hash without weights, and the weights are written again.
        recorded = unfinished.with_name(f"{unfinished.name}.sha256")
        recorded.write_text(f"{digest}  {path.name}\n", encoding="ascii")
        recorded.replace(hash_path(path))
        unfinished.replace(path)
    except OSError as error:
        fix = "Name a file that can be written with model.options.weights"
        raise ModelError(f"{path}: the weights ({plan.size_bytes:,} bytes) cannot be written: {error}. {fix}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink()
    return digest


def check(path: Path, plan: WeightsPlan, *, whole: bool = False) -> None:
    """Check that size and header are those of the plan; with ``whole``, that no byte has changed.

    :raises ModelError: they are not, or it has.
    """
    try:
        with path.open("rb") as file:
            right = (
                os.fstat(file.fileno()).st_size == plan.size_bytes and file.read(len(plan.header())) == plan.header()
            )
        if right and whole:
            right = hash_path(path).read_text(encoding="ascii").split()[:1] == [_sha256(path)]
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be read: {error}") from None
    if not right:
        raise ModelError(f"{path}: other or damaged weights. Delete the file; the next start writes it again")


def check_once(path: Path) -> None:
    """As :func:`check` of every byte, if the file's hash is next to it; but only once while the file stays the same.

    A note next to the weights says what was hashed: device and inode, size, times of the last write and the last
    change, and the hash. The kernel sets a file's time of change (``st_ctime``, inode(7)) at every write, and it cannot
    be set back without setting the clock back; so a file that was written since is hashed again. A note counts only if
    it belongs to this user and no other user may write to it. Two things are not detected: bytes that change below the
    file system, and notes forged by this user, who could also replace the recorded hash.
    """
    try:
        if not hash_path(path).exists():
            return
        recorded = hash_path(path).read_text(encoding="ascii").split()[:1]
        before = _identity(path)
        if _noted(path) == [*before, *recorded]:
            return
        if recorded != [_sha256(path)] or _identity(path) != before:
            raise ModelError(f"{path}: other or damaged weights. Delete the file; the next start writes it again")
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be read: {error}") from None
    if time.time_ns() - path.stat().st_ctime_ns < SETTLED_NS:
        return
    with suppress(OSError):  # in a read-only folder the weights are hashed at every start
        _note(path, [*before, *recorded])


def note_path(path: Path) -> Path:
    """Return the path of the note of :func:`check_once`."""
    return path.with_name(f"{path.name}.checked")


def _identity(path: Path) -> list[str]:
    found = path.stat()
    parts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return [str(part) for part in parts]


def _noted(path: Path) -> list[str]:
    """Return the note's parts; none if it is missing or not to be trusted."""
    try:
        with note_path(path).open(encoding="ascii") as file:
            found = os.fstat(file.fileno())
            trusted = found.st_uid == os.geteuid() and not found.st_mode & 0o022
            return file.read(1024).split() if trusted else []
    except (OSError, UnicodeDecodeError):
        return []


def _note(path: Path, parts: list[str]) -> None:
    unfinished = path.with_name(f".{note_path(path).name}.{os.getpid()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(" ".join(parts) + "\n")
        unfinished.replace(note_path(path))
    finally:
        with suppress(OSError):
            unfinished.unlink()


def hash_path(path: Path) -> Path:
    """Return the path of the recorded hash, next to the weights, in the format of ``sha256sum --check``."""
    return path.with_name(f"{path.name}.sha256")


def _write(path: Path, plan: WeightsPlan, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in chain([plan.header()], plan.tensors()):
            file.write(part)
            digest.update(part)
            progress(file.tell())
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

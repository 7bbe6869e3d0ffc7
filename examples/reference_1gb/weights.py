"""Random weights, written once: a safetensors file made tensor by tensor, so that 1 GB never lies in memory.

What is smaller than float32 is rounded here, from the same numbers, and not in the replicas: so they share its pages.

Format: 8 bytes of header size (little-endian), a JSON header, then the tensors end to end
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.errors import ModelError

SIZES = {"float32": 4, "bfloat16": 2, "int8": 1}
NAMES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8"}
"""As the format has them."""
DEVIATION = 0.02
"""Of the normal distribution that BERT's weights start from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is in the file: the same plan makes the same bytes.

    ``dtype``: ``float32``; ``bfloat16``, to the nearest; or ``int8``, which the layers' matrices are, each row of them
    with a scale in float32 as ``<name>_scale``, and all else float32.
    """

    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    dtype: str = "float32"

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def size_bytes(self) -> int:
        return len(self.header()) + sum(SIZES[dtype] * math.prod(shape) for _, dtype, shape in self._parts())

    def header(self) -> bytes:
        """All that comes before the first tensor, filled up so that tensors begin on a cache line."""
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
        """Each tensor's bytes. One has its own generator, so it does not depend on those before it."""
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
        """Each tensor's name, type and shape."""
        for name, shape in self.shapes.items():
            if self._quantised(name):
                yield name, "int8", shape
                yield f"{name}_scale", "float32", shape[:1]
            else:
                yield name, "float32" if self.dtype == "int8" else self.dtype, shape

    def _quantised(self, name: str) -> bool:
        return self.dtype == "int8" and name.startswith("encoder.") and len(self.shapes[name]) > 1


def _halves(values: np.ndarray) -> np.ndarray:
    """bfloat16, to the nearest and to even between two: the upper half of a float32's bits."""
    bits = values.view("<u4")
    upper: np.ndarray = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return upper


def _rows_of_bytes(values: np.ndarray) -> Iterator[bytes]:
    """Whole numbers from -127 to 127, and what one of them is worth in each row."""
    scales = np.abs(values).max(axis=1) / np.float32(127)
    yield np.rint(values / scales[:, None]).astype("i1").tobytes()
    yield scales.astype("<f4").tobytes()


def write(path: Path, plan: Plan, progress: Callable[[int], None] = lambda written_bytes: None) -> str:
    """Make the file, whole or not at all, whoever else is making it too. Returns its SHA-256, recorded beside it.

    Raises ``ModelError`` if it cannot be written there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = _write(unfinished, plan, progress)
        # The hash first: a crash in between leaves a hash without weights, and the weights are made anew.
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


def check(path: Path, plan: Plan, *, whole: bool = False) -> None:
    """Size and header are those of the plan; with ``whole``, every byte is as it was written. Else ``ModelError``."""
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
        raise ModelError(f"{path}: these are other weights, or damaged ones. Delete the file; it is written anew")


def hash_path(path: Path) -> Path:
    """Beside the weights, in the format of ``sha256sum --check``."""
    return path.with_name(f"{path.name}.sha256")


def _write(path: Path, plan: Plan, progress: Callable[[int], None]) -> str:
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

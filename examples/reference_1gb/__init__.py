"""The heavy model that Penstock is measured with: a transformer of 1 GB that takes about a second for each item.

It has 21 encoder layers of width 1024 (264 million parameters, 0.99 GiB in float32), with random weights from a seed:
it costs as much as a real model and its answers mean nothing. The weights are written once and then memory-mapped, so
replicas on a machine share one copy and a restart is quick. ``python -m examples.reference_1gb`` writes them in
advance.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from examples.reference_1gb.weights import SIZES, WeightsPlan, check, check_once, write
from pipeline.errors import ModelError
from pipeline.model import LoadContext, Model, Reject

if TYPE_CHECKING:
    from torch import Tensor

    from examples.encoder import Encoder, Geometry

VOCABULARY = 1024
POSITIONS = 512
SCORES = 8
HEAD_WIDTH = 64
DTYPES = tuple(SIZES)

START, FIRST_WORD = 1, 2
"""Token ids: 0 is padding, 1 starts every item, so that none is empty; words are hashed to the others."""


class Reference(Model):
    """The model. Options:

    - ``length``: tokens of each item (128);
    - ``layers`` (21), ``width`` (1024, a multiple of 64), ``seed`` (0);
    - ``weights``: a file (default: in the user's cache folder);
    - ``verify``: false: the SHA-256 recorded next to the file, if any, is compared once while the file stays the same,
      and its size and header at every start; true: the SHA-256 at every start;
    - ``dtype``: ``float32``, ``bfloat16``, or ``int8``, which is for CPUs. Each type has a file of its own.

    Items are ``{"tokens": [ids]}`` or ``{"text": "…"}``, cut or padded to ``length``: every item costs the same.
    """

    output_schema = pa.schema([("scores", pa.list_(pa.float32(), SCORES))])

    def load(self, context: LoadContext) -> None:
        """Map the weights. The first load on a machine writes them, which takes about 10 s.

        :raises ModelError: an option is wrong, or the weights cannot be written or are damaged.
        """
        options = Options(context.options)
        if options.dtype == "int8" and context.device != "cpu":
            raise ModelError('model.options.dtype: "int8" is for CPUs. Write "bfloat16", or model.device = "cpu"')

        import torch

        from examples.encoder import Encoder, read_weights
        from examples.reference_1gb.gpu_copy import Channel, device_of

        torch.set_num_threads(context.threads)
        plan = options.plan()
        if not options.path.exists():
            write(options.path, plan)
        check(options.path, plan, whole=options.verify)
        if not options.verify:
            check_once(options.path)
        tensors = read_weights(options.path, context.device)
        self._encoder: Encoder = Encoder(tensors, options.geometry())
        self._head = tensors["head.weight"]
        self._channel = Channel(device_of(context.device))
        self._length = options.length

    def example(self) -> dict[str, Any]:
        """Return a short text."""
        return {"text": "a replica predicts this once before the first record comes"}

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return token ids. Words are split at white space and hashed with CRC-32, so ids are the same on every
        machine.
        """
        item: dict[str, Any] = super().decode(data)
        if "tokens" in item:
            tokens = item["tokens"]
            if not isinstance(tokens, list) or not all(type(token) is int and token >= 0 for token in tokens):
                raise Reject("field 'tokens' is not a list of whole numbers from 0")
        elif not isinstance(item.get("text"), str):
            raise Reject("payload has neither 'tokens', a list of numbers, nor 'text', a string")
        return item

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return scores for each item; they do not depend on the other items of the batch."""
        import torch

        ids = torch.tensor([token_ids(item, self._length) for item in items])
        with torch.inference_mode():
            scores = self._channel.run(ids, self._scores)
        return [{"scores": row} for row in scores.numpy()]

    def _scores(self, ids: Tensor) -> Tensor:
        rows, length = ids.shape
        hidden = self._encoder.hidden(ids.reshape(-1), [length] * rows)
        return (hidden.view(rows, length, -1).mean(1) @ self._head.T).float()


def token_ids(item: Mapping[str, Any], length: int) -> list[int]:
    """Return exactly ``length`` ids, all below ``VOCABULARY``."""
    if "tokens" in item:
        numbers = item["tokens"][:length]
    else:
        numbers = [zlib.crc32(word) for word in item["text"].encode().split(None, length)[:length]]
    ids = [START, *(FIRST_WORD + number % (VOCABULARY - FIRST_WORD) for number in numbers)][:length]
    return ids + [0] * (length - len(ids))


class Options:
    """``[model.options]``, checked.

    :raises ModelError: an option is unknown or wrong; the text names the first one.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        known = ("length", "layers", "width", "seed", "weights", "verify", "dtype")
        if unknown := sorted(set(options) - set(known)):
            raise ModelError(f"model.options.{unknown[0]}: Reference has no such option; it has {', '.join(known)}")
        self.length = _number(options, "length", 128, at_least=1, at_most=POSITIONS)
        self.layers = _number(options, "layers", 21, at_least=1, at_most=1000)
        self.width = _number(options, "width", 1024, at_least=HEAD_WIDTH, at_most=16384)
        self.seed = _number(options, "seed", 0, at_least=0, at_most=2**63 - 1)
        self.verify = bool(options.get("verify", False))
        if self.width % HEAD_WIDTH:
            raise ModelError(f"model.options.width: {self.width} is not a multiple of {HEAD_WIDTH}")
        self.dtype = options.get("dtype", "float32")
        if self.dtype not in DTYPES:
            raise ModelError(f"model.options.dtype: {self.dtype!r} is not one of {', '.join(DTYPES)}")
        kind = "" if self.dtype == "float32" else f"-{self.dtype}"
        name = f"reference-{self.layers}x{self.width}-seed{self.seed}{kind}.safetensors"
        self.path = Path(str(options["weights"])).expanduser() if "weights" in options else cache_folder() / name

    def plan(self) -> WeightsPlan:
        """Return what the weights file must contain."""
        return WeightsPlan(shapes(self.layers, self.width), self.seed, self.dtype)

    def geometry(self) -> Geometry:
        """Return the network's size. Imports torch."""
        from examples.encoder import Geometry

        return Geometry(layers=self.layers, width=self.width, heads=self.width // HEAD_WIDTH)


def _number(options: Mapping[str, Any], name: str, default: int, *, at_least: int, at_most: int) -> int:
    value = options.get(name, default)
    if type(value) is not int or not at_least <= value <= at_most:
        raise ModelError(f"model.options.{name}: {value!r} is not a whole number from {at_least} to {at_most}")
    return value


def cache_folder() -> Path:
    """Return ``penstock`` in the user's cache folder, as the XDG base directory specification defines it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "penstock")


def shapes(layers: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by the name that the encoder expects, in the order of the file."""
    named: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (VOCABULARY, width),
        "embeddings.position_embeddings.weight": (POSITIONS, width),
        "embeddings.token_type_embeddings.weight": (1, width),
        "head.weight": (SCORES, width),
    }
    pairs: dict[str, tuple[int, ...]] = {"embeddings.LayerNorm": (width,)}
    for i in range(layers):
        pairs |= {
            f"encoder.layer.{i}.attention.self.query": (width, width),
            f"encoder.layer.{i}.attention.self.key": (width, width),
            f"encoder.layer.{i}.attention.self.value": (width, width),
            f"encoder.layer.{i}.attention.output.dense": (width, width),
            f"encoder.layer.{i}.attention.output.LayerNorm": (width,),
            f"encoder.layer.{i}.intermediate.dense": (4 * width, width),
            f"encoder.layer.{i}.output.dense": (width, 4 * width),
            f"encoder.layer.{i}.output.LayerNorm": (width,),
        }
    for name, shape in pairs.items():
        named |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return named

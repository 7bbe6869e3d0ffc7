"""A BERT encoder in plain torch: what MiniLM and the 1 GB reference have in common.

Importing this imports torch, so models import it in ``load``. Weights go by the names that BERT checkpoints use
(``encoder.layer.0.attention.self.query.weight`` …) and are used where they lie: memory-mapped, never copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Geometry:
    """``width`` is a multiple of ``heads``. ``eps`` is that of the layer norms."""

    layers: int
    width: int
    heads: int
    eps: float = 1e-12


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Every tensor of a safetensors file. On the CPU they are views of the mapped file: processes share its pages."""
    with safe_open(path, framework="pt", device=device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict, has only keys()


def pad(rows: Sequence[Sequence[int]], length: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Token ids and attention mask (true: a token, false: padding), each of shape (rows, length).

    No row may be empty or longer than ``length``. Id 0 pads.
    """
    ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], dtype=torch.long, device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(length, device=device) < lengths[:, None]


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean of each row's tokens, padding left out: (rows, length, width) to (rows, width)."""
    counted = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * counted).sum(1) / counted.sum(1)


class Encoder:
    """Stateless once built, so any number of threads may call it."""

    def __init__(self, weights: Mapping[str, Tensor], geometry: Geometry) -> None:
        """Raises ``KeyError`` with the name of the first tensor that is missing."""
        self._weights = weights
        self._geometry = geometry
        self._layers = [self._layer(f"encoder.layer.{i}.") for i in range(geometry.layers)]
        self._words = weights["embeddings.word_embeddings.weight"]
        self._places = weights["embeddings.position_embeddings.weight"]
        self._kind = weights["embeddings.token_type_embeddings.weight"][0]
        self._norm = self._pair("embeddings.LayerNorm")

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of shape (rows, length, width). Those of padding mean nothing."""
        hidden = F.embedding(ids, self._words) + self._places[: ids.shape[1]] + self._kind
        hidden = self._normalised(hidden, self._norm)
        # Without a mask attention takes a quicker path, so it is left out where nothing is padded.
        seen = None if bool(mask.all()) else mask[:, None, None, :]
        for layer in self._layers:
            hidden = self._attend(hidden, seen, layer)
            wide = F.gelu(F.linear(hidden, *layer.widen))
            hidden = self._normalised(hidden + F.linear(wide, *layer.narrow), layer.narrow_norm)
        return hidden

    def _attend(self, hidden: Tensor, seen: Tensor | None, layer: _Layer) -> Tensor:
        rows, length, width = hidden.shape
        heads = self._geometry.heads

        def split(projection: _Pair) -> Tensor:
            return F.linear(hidden, *projection).view(rows, length, heads, width // heads).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(split(layer.query), split(layer.key), split(layer.value), seen)
        joined = F.linear(mixed.transpose(1, 2).reshape(rows, length, width), *layer.join)
        return self._normalised(hidden + joined, layer.join_norm)

    def _normalised(self, hidden: Tensor, norm: _Pair) -> Tensor:
        return F.layer_norm(hidden, (self._geometry.width,), *norm, eps=self._geometry.eps)

    def _layer(self, prefix: str) -> _Layer:
        return _Layer(
            query=self._pair(f"{prefix}attention.self.query"),
            key=self._pair(f"{prefix}attention.self.key"),
            value=self._pair(f"{prefix}attention.self.value"),
            join=self._pair(f"{prefix}attention.output.dense"),
            join_norm=self._pair(f"{prefix}attention.output.LayerNorm"),
            widen=self._pair(f"{prefix}intermediate.dense"),
            narrow=self._pair(f"{prefix}output.dense"),
            narrow_norm=self._pair(f"{prefix}output.LayerNorm"),
        )

    def _pair(self, name: str) -> _Pair:
        return self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]


_Pair = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclass(frozen=True, slots=True)
class _Layer:
    query: _Pair
    key: _Pair
    value: _Pair
    join: _Pair
    join_norm: _Pair
    widen: _Pair
    narrow: _Pair
    narrow_norm: _Pair

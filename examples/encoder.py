"""A BERT encoder in plain torch, used by MiniLM and by the 1 GB reference model.

Nothing is padded. The rows of a batch lie end to end in one matrix of tokens, which is all that the layers' products
need. Only attention, a small part of the work, is computed row by row. On two cores with batches of 64 docstrings this
is seven times as fast as padding to the longest row, and a row's result does not depend on its neighbours.

Importing this module imports torch, so models import it in ``load``. Weights have the names of BERT checkpoints
(``encoder.layer.0.attention.self.query.weight`` …) and are used in place: memory-mapped, never copied. Layers compute
in the weights' type: float32, bfloat16, or int8 with a scale for each row (``….weight_scale``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ModelError

WIDE_TOKENS = 1024
"""How many tokens go through a layer's wide products at a time."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The network's size. ``width`` must be a multiple of ``heads``. ``eps`` is that of the layer norms."""

    layers: int
    width: int
    heads: int
    eps: float = 1e-12


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Read every tensor of a safetensors file. On the CPU they are views of the mapped file, so processes share its
    pages.

    :raises ModelError: the file is damaged: sizes and header do not agree.
    """
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict, has only keys()
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: these weights cannot be used: {error}") from None


def mean_pool(rows: Sequence[Tensor]) -> Tensor:
    """Return the mean of each row's tokens: from rows of shape (tokens, width) to one tensor of shape (rows, width)."""
    return torch.stack([row.mean(0) for row in rows])


class Encoder:
    """The network. It has no state besides the weights, so any number of threads may call it."""

    def __init__(self, weights: Mapping[str, Tensor], geometry: Geometry) -> None:
        """:raises ModelError: a tensor is missing; the text names the first one."""
        self._weights = weights
        self._geometry = geometry
        self._layers = [self._layer(f"encoder.layer.{i}.") for i in range(geometry.layers)]
        self._words = self._tensor("embeddings.word_embeddings.weight")
        self._places = self._tensor("embeddings.position_embeddings.weight")
        self._kind = self._tensor("embeddings.token_type_embeddings.weight")[0]
        self._norm = self._pair("embeddings.LayerNorm")

    def __call__(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        """Return the last layer's hidden states for each row of token ids, of shape (tokens, width). No row may be
        empty.
        """
        ids = torch.tensor(list(chain.from_iterable(rows)), device=self._words.device)
        lengths = [len(row) for row in rows]
        return torch.split(self.hidden(ids, lengths), lengths)

    def hidden(self, ids: Tensor, lengths: list[int]) -> Tensor:
        """As :meth:`__call__`, for token ids that lie end to end in one tensor on the weights' device. Returns one
        matrix.
        """
        places = torch.cat([self._places[:length] for length in lengths])
        hidden = self._normalised(functional.embedding(ids, self._words) + places + self._kind, self._norm)
        for layer in self._layers:
            joined = layer.join(self._attended(hidden, lengths, layer))
            hidden = self._normalised(hidden + joined, layer.join_norm)
            hidden = self._normalised(hidden + self._fed_forward(hidden, layer), layer.narrow_norm)
        return hidden

    def _fed_forward(self, hidden: Tensor, layer: _Layer) -> Tensor:
        """On CPUs, only a part of the tokens at a time: the result is four times as wide and would be most of a
        batch's memory.
        """
        parts = [hidden] if hidden.is_cuda else torch.tensor_split(hidden, -(-len(hidden) // WIDE_TOKENS))
        return torch.cat([layer.narrow(functional.gelu(layer.widen(part))) for part in parts])

    def _attended(self, hidden: Tensor, lengths: list[int], layer: _Layer) -> Tensor:
        tokens, width = hidden.shape
        heads = self._geometry.heads
        if (
            hidden.is_cuda and len(set(lengths)) == 1
        ):  # on a GPU, starting a kernel is what costs time: use one for all rows
            parts = (len(lengths), lengths[0], heads, width // heads)
            query, key, value = (
                project(hidden).view(parts).transpose(1, 2) for project in (layer.query, layer.key, layer.value)
            )
            mixed_rows = functional.scaled_dot_product_attention(query, key, value)
            return mixed_rows.transpose(1, 2).reshape(tokens, width)

        def rows_of(project: _Linear) -> tuple[Tensor, ...]:
            projected = project(hidden).view(1, tokens, heads, width // heads)
            return torch.split(projected.transpose(1, 2), lengths, dim=2)

        mixed = map(
            functional.scaled_dot_product_attention, rows_of(layer.query), rows_of(layer.key), rows_of(layer.value)
        )
        return torch.cat(list(mixed), dim=2).transpose(1, 2).reshape(tokens, width)

    def _normalised(self, hidden: Tensor, norm: _Pair) -> Tensor:
        return functional.layer_norm(hidden, (self._geometry.width,), *norm, eps=self._geometry.eps)

    def _layer(self, prefix: str) -> _Layer:
        return _Layer(
            query=self._linear(f"{prefix}attention.self.query"),
            key=self._linear(f"{prefix}attention.self.key"),
            value=self._linear(f"{prefix}attention.self.value"),
            join=self._linear(f"{prefix}attention.output.dense"),
            join_norm=self._pair(f"{prefix}attention.output.LayerNorm"),
            widen=self._linear(f"{prefix}intermediate.dense"),
            narrow=self._linear(f"{prefix}output.dense"),
            narrow_norm=self._pair(f"{prefix}output.LayerNorm"),
        )

    def _linear(self, name: str) -> _Linear:
        weight, bias = self._pair(name)
        scale = self._tensor(f"{name}.weight_scale") if weight.dtype is torch.int8 else None
        return _Linear(weight, bias, scale)

    def _pair(self, name: str) -> _Pair:
        return self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")

    def _tensor(self, name: str) -> Tensor:
        try:
            return self._weights[name]
        except KeyError:
            raise ModelError(f"the weights belong to another network: they have no tensor {name}") from None


_Pair = tuple[Tensor, Tensor]
"""Weight and bias."""


@dataclass(frozen=True, slots=True)
class _Linear:
    """A product with a weight and a bias.

    With ``scale`` (one for each row of an int8 weight), quantization is dynamic: each input row is rounded to whole
    numbers with a scale of its own, and the product is computed in whole numbers.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None

    def __call__(self, rows: Tensor) -> Tensor:
        if self.scale is None:
            return functional.linear(rows, self.weight, self.bias)
        own = rows.abs().amax(1, keepdim=True).clamp_min(1e-12).div_(127)
        whole = torch._int_mm((rows / own).round_().to(torch.int8), self.weight.T)
        return torch.addcmul(self.bias, whole * own, self.scale)


@dataclass(frozen=True, slots=True)
class _Layer:
    query: _Linear
    key: _Linear
    value: _Linear
    join: _Linear
    join_norm: _Pair
    widen: _Linear
    narrow: _Linear
    narrow_norm: _Pair

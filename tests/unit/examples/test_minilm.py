from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from examples import minilm
from examples.minilm import MiniLM
from pipeline.errors import ModelError
from pipeline.model import LoadContext, Reject
from tests.unit.examples import their_embeddings
from tests.unit.examples.their_embeddings import DOCSTRINGS, ODD, PACKAGES

ROOT = Path(__file__).parents[3]
LOCKS = ("requirements.lock", "requirements-torch.lock", "requirements-demo.lock")
TEXTS = ["hello world", "", "a penstock feeds a turbine", "word " * 400, "漢字 and 👩‍👩‍👧"]


def loaded(**options: object) -> MiniLM:
    model = MiniLM()
    model.load(LoadContext(options=options))
    return model


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return loaded()


def embeddings(model: MiniLM, texts: list[str]) -> np.ndarray:
    return np.stack([row["embedding"] for row in model.predict([{"text": text} for text in texts])])


def test_embeddings_equal_those_of_the_library_that_the_model_card_names(model: MiniLM) -> None:
    theirs = their_embeddings.theirs()
    assert len(theirs) == DOCSTRINGS + len(ODD) and set(ODD) <= theirs.keys()
    ours = embeddings(model, list(theirs))
    assert np.abs(ours - np.stack(list(theirs.values()))).max() < 1e-4


def test_their_embeddings_are_those_of_the_locked_versions() -> None:
    lines = [line.split()[0] for lock in LOCKS for line in (ROOT / lock).read_text().splitlines() if "==" in line]
    locked = dict(line.split("==") for line in lines)
    of, _ = their_embeddings.recorded()
    assert of == {name: locked[name] for name in PACKAGES}, "run: python -m tests.unit.examples.their_embeddings"


def test_results_fit_the_output_schema(model: MiniLM) -> None:
    table = pa.RecordBatch.from_pylist(model.predict([{"text": text} for text in TEXTS]), MiniLM.output_schema)
    assert table.num_rows == len(TEXTS)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 384)
    assert table.column("tokens").to_pylist()[:2] == [4, 2]


def test_embeddings_have_length_one(model: MiniLM) -> None:
    assert np.allclose(np.linalg.norm(embeddings(model, TEXTS), axis=1), 1, atol=1e-5)


def test_a_record_is_embedded_the_same_in_any_batch(model: MiniLM) -> None:
    together = embeddings(model, TEXTS)
    alone = np.concatenate([embeddings(model, [text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5


def test_like_texts_are_nearer_than_unlike_ones(model: MiniLM) -> None:
    cat, kitten, tax = embeddings(model, ["a cat sleeps", "the kitten is napping", "quarterly tax return"])
    assert cat @ kitten > cat @ tax + 0.3


def test_texts_are_cut_at_max_tokens(model: MiniLM) -> None:
    assert model.predict([{"text": "word " * 1000}])[0]["tokens"] == 256
    assert loaded(max_tokens=16).predict([{"text": "word " * 1000}])[0]["tokens"] == 16


def test_without_normalize_the_mean_is_handed_out_as_it_is(model: MiniLM) -> None:
    [raw] = embeddings(loaded(normalize=False), TEXTS[:1])
    [unit] = embeddings(model, TEXTS[:1])
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    assert np.allclose(raw / np.linalg.norm(raw), unit, atol=1e-5)


def test_threads_may_predict_at_once(model: MiniLM) -> None:
    expected = embeddings(model, TEXTS)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(embeddings(model, TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.abs(each - expected).max() < 1e-6 for each in found)


def test_the_example_predicts(model: MiniLM) -> None:
    assert model.predict([model.example()])[0]["tokens"] > 5


def test_a_payload_keeps_its_other_fields_for_carrying() -> None:
    assert MiniLM().decode(b'{"text": "t", "name": "n"}') == {"text": "t", "name": "n"}


@pytest.mark.parametrize("payload", [b"", b"\xff", b"{", b"[1]", b"{}", b'{"text": 7}', b'{"text": null}'])
def test_a_payload_without_text_is_rejected(payload: bytes) -> None:
    with pytest.raises(Reject):
        MiniLM().decode(payload)


def test_other_weights_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    shutil.copy(minilm.installed_folder() / "tokenizer.json", tmp_path)
    with pytest.raises(ModelError, match="SHA-256") as error:
        loaded(weights=str(tmp_path))
    assert str(error.value).count("\n") == 0


def test_a_copy_of_the_weights_is_as_good(tmp_path: Path, model: MiniLM) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(minilm.installed_folder() / name)
    assert np.array_equal(embeddings(loaded(weights=str(tmp_path)), TEXTS), embeddings(model, TEXTS))


def test_a_missing_tokenizer_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(minilm.installed_folder() / "model.safetensors")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        loaded(weights=str(tmp_path))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="no tensor"):
        loaded(weights=str(tmp_path), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_token": 3}, "max_token"),
        ({"max_tokens": "256"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 513}, "max_tokens"),
        ({"normalize": 1}, "normalize"),
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"weights": "/no/such/folder"}, "/no/such/folder"),
        ({"weights": 7}, "weights"),
    ],
)
def test_a_wrong_option_is_reported_in_one_line(options: dict[str, object], named: str) -> None:
    with pytest.raises(ModelError, match=named) as error:
        loaded(**options)
    assert "\n" not in str(error.value)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package")
    with pytest.raises(ModelError, match="pip install"):
        minilm.installed_folder()

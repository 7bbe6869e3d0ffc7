from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file

from examples import reference_1gb
from examples.reference_1gb import Options, Reference, token_ids, weights
from examples.reference_1gb.weights import WeightsPlan, check, check_once, hash_path, note_path, write
from pipeline.errors import ModelError
from pipeline.model import LoadContext, Reject

TINY = {"layers": 2, "width": 64, "length": 16}


def loaded(path: Path, **options: object) -> Reference:
    model = Reference()
    model.load(LoadContext(options={**TINY, "weights": str(path), **options}))
    return model


def scores(model: Reference, *items: dict[str, object]) -> np.ndarray:
    return np.stack([row["scores"] for row in model.predict(items)])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "folder" / "tiny.safetensors"


def test_the_real_geometry_has_the_size_that_it_is_named_for() -> None:
    plan = Options({}).plan()
    in_layers = sum(np.prod(shape) for name, shape in plan.shapes.items() if name.startswith("encoder."))
    assert round(in_layers / 1e6) == 265
    assert 0.98 < plan.size_bytes / 2**30 < 1.0


def test_the_first_load_writes_the_weights_and_the_next_only_maps_them(path: Path) -> None:
    first = scores(loaded(path), {"text": "hello"})
    written_ns = path.stat().st_mtime_ns
    assert np.array_equal(scores(loaded(path, verify=True), {"text": "hello"}), first)
    assert path.stat().st_mtime_ns == written_ns
    assert [each.name for each in sorted(path.parent.iterdir())] == [path.name, hash_path(path).name]


def test_results_fit_the_output_schema_and_differ_between_items(path: Path) -> None:
    rows = loaded(path).predict([{"text": "hello"}, {"text": "world"}, {"tokens": [5, 6]}])
    table = pa.RecordBatch.from_pylist(rows, Reference.output_schema)
    assert table.schema.field("scores").type == pa.list_(pa.float32(), 8)
    found = table.column("scores").to_pylist()
    assert len({tuple(row) for row in found}) == 3 and np.isfinite(found).all()


def test_an_item_scores_the_same_in_any_batch(path: Path) -> None:
    model = loaded(path)
    items: list[dict[str, object]] = [{"text": "a"}, {"text": "b c d"}, {"tokens": list(range(100))}, {"tokens": []}]
    assert np.abs(scores(model, *items) - np.concatenate([scores(model, item) for item in items])).max() < 1e-5


def test_a_batch_of_more_tokens_than_go_at_a_time_scores_as_its_items_do(path: Path) -> None:
    model = loaded(path)
    from examples.encoder import WIDE_TOKENS

    items: list[dict[str, object]] = [{"text": f"item {n}"} for n in range(1 + WIDE_TOKENS // TINY["length"])]
    parts = [items[:3], items[3:40], items[40:]]
    assert np.abs(scores(model, *items) - np.concatenate([scores(model, *part) for part in parts])).max() < 1e-5


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    plan = Options(TINY).plan()
    digests = [write(tmp_path / name, plan) for name in ("a", "b")]
    other = write(tmp_path / "c", WeightsPlan(plan.shapes, seed=1))
    assert digests[0] == digests[1] != other
    assert hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest() == digests[0]


def test_the_file_reads_with_safetensors_own_reader(tmp_path: Path) -> None:
    plan = Options(TINY).plan()
    write(tmp_path / "w", plan)
    found = load_file(tmp_path / "w")
    assert {name: tensor.shape for name, tensor in found.items()} == plan.shapes
    assert (found["encoder.layer.1.output.LayerNorm.weight"] == 1).all()
    assert not found["encoder.layer.1.output.dense.bias"].any()
    assert 0.015 < found["encoder.layer.0.intermediate.dense.weight"].std() < 0.025


def test_damage_is_found_by_size_and_header_at_once_and_by_hash_on_demand(tmp_path: Path) -> None:
    plan = Options(TINY).plan()
    file = tmp_path / "w"
    write(file, plan)
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    with pytest.raises(ModelError, match="damaged"):
        check(file, plan)
    file.write_bytes(good[:-1] + b"\x01")
    check(file, plan)
    with pytest.raises(ModelError, match="damaged"):
        check(file, plan, whole=True)


def test_a_file_is_hashed_once_and_again_whenever_it_may_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "w"
    write(file, Options(TINY).plan())
    hashed: list[Path] = []
    real = weights._sha256

    def counted(path: Path) -> str:
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(weights, "_sha256", counted)
    check_once(file)
    assert len(hashed) == 1 and not note_path(file).exists(), "written just now: it may change within the same tick"
    hashed.clear()
    monkeypatch.setattr(weights, "SETTLED_NS", 0)
    for _ in range(2):
        check_once(file)
    assert len(hashed) == 1 and note_path(file).stat().st_mode & 0o777 == 0o600
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))  # the times as they were, but for ctime
    check_once(file)
    assert len(hashed) == 2
    note_path(file).chmod(0o622)
    check_once(file)
    assert len(hashed) == 3 and note_path(file).stat().st_mode & 0o777 == 0o600


def test_a_byte_changed_behind_an_old_time_is_found_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SETTLED_NS", 0)
    loaded(tmp_path / "w")
    assert note_path(tmp_path / "w").exists()
    found = (tmp_path / "w").stat()
    with (tmp_path / "w").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(tmp_path / "w", ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(ModelError, match="damaged"):
        loaded(tmp_path / "w")


def test_a_folder_that_takes_no_note_costs_a_hash_at_every_start_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, parts: list[str]) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(weights, "SETTLED_NS", 0)
    monkeypatch.setattr(weights, "_note", refuse)
    loaded(tmp_path / "w")
    assert not note_path(tmp_path / "w").exists()


def test_weights_of_another_geometry_are_refused(path: Path) -> None:
    loaded(path)
    with pytest.raises(ModelError, match="other or damaged weights"):
        loaded(path, layers=3)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def full_disk(written_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="No space left"):
        write(tmp_path / "w", Options(TINY).plan(), full_disk)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"model\.options\.weights") as error:
        loaded(tmp_path / "file" / "w")
    assert "\n" not in str(error.value)


def test_token_ids_have_the_length_asked_for() -> None:
    assert token_ids({"tokens": [0, 1, 2]}, 6) == [1, 2, 3, 4, 0, 0]
    assert token_ids({"tokens": list(range(5000))}, 4) == [1, 2, 3, 4]
    assert token_ids({"text": ""}, 2) == [1, 0]
    assert len(token_ids({"text": "word " * 1000}, 128)) == 128
    assert max(token_ids({"tokens": [2**63, 1021, 1022]}, 4)) < 1024


def test_words_have_the_same_hash_in_every_process() -> None:
    assert token_ids({"text": "hello world"}, 3) == [1, 102, 881]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"text": 1}',
        b'{"tokens": "x"}',
        b'{"tokens": [1.5]}',
        b'{"tokens": [-1]}',
        b'{"tokens": [true]}',
    ],
)
def test_a_payload_without_tokens_or_text_is_rejected(payload: bytes) -> None:
    with pytest.raises(Reject):
        Reference().decode(payload)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lenght": 1}, "lenght"),
        ({"length": 0}, "length"),
        ({"length": 513}, "length"),
        ({"layers": "21"}, "layers"),
        ({"width": 100}, "width"),
        ({"seed": -1}, "seed"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_a_wrong_option_is_reported_in_one_line(options: dict[str, object], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        Options(options)


def test_weights_are_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Options({}).path == tmp_path / "penstock" / "reference-21x1024-seed0.safetensors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert reference_1gb.cache_folder() == Path.home() / ".cache" / "penstock"


def test_the_command_writes_the_weights_and_checks_them_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "w"
    command = [sys.executable, "-m", "examples.reference_1gb", "--weights", str(path), "--layers=1", "--width=64"]
    first, second = (subprocess.run(command, check=False, capture_output=True, text=True, timeout=60) for _ in range(2))
    assert (first.returncode, first.stdout.strip()) == (0, str(path))
    assert hashlib.sha256(path.read_bytes()).hexdigest() in first.stderr
    assert (second.returncode, second.stderr.strip()) == (0, "the weights exist and are complete")
    path.write_bytes(b"")
    third = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert third.returncode == 2 and "Delete the file" in third.stderr and third.stdout == ""


def test_the_example_predicts(path: Path) -> None:
    model = loaded(path)
    assert np.isfinite(scores(model, model.example())).all()


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    found: np.ndarray = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return found


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 0.51), ("int8", 0.26)])
def test_smaller_types_score_nearly_the_same_and_take_less_memory(tmp_path: Path, dtype: str, size: float) -> None:
    items: list[dict[str, object]] = [{"text": "a"}, {"text": "b c d"}, {"tokens": list(range(100))}]
    exact = scores(loaded(tmp_path / "w"), *items)
    model = loaded(tmp_path / dtype, dtype=dtype)
    assert 0.99 < cosines(scores(model, *items), exact).min() < 1 - 1e-9
    assert Options({"dtype": dtype}).plan().size_bytes < size * Options({}).plan().size_bytes
    assert np.allclose(scores(model, *items), np.concatenate([scores(model, item) for item in items]), atol=0.02)


def test_bfloat16_is_rounded_as_torch_rounds(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file as load_tensors

    for dtype in ("float32", "bfloat16"):
        write(tmp_path / dtype, Options({**TINY, "dtype": dtype}).plan())
    exact, rounded = (load_tensors(tmp_path / dtype) for dtype in ("float32", "bfloat16"))
    assert all(torch.equal(rounded[name], tensor.to(torch.bfloat16)) for name, tensor in exact.items())


def test_weights_of_another_type_are_refused_and_each_type_has_its_own_file(path: Path) -> None:
    loaded(path)
    with pytest.raises(ModelError, match="other or damaged weights"):
        loaded(path, dtype="int8")
    assert len({Options({"dtype": dtype}).path for dtype in reference_1gb.DTYPES}) == 3


def test_int8_on_a_gpu_is_refused_in_one_line(path: Path) -> None:
    context = LoadContext(options={**TINY, "weights": str(path), "dtype": "int8"}, device="cuda:0")
    with pytest.raises(ModelError, match=r"model\.options\.dtype"):
        Reference().load(context)

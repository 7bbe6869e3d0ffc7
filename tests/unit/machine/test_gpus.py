from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ModelError
from pipeline.machine import gpus
from pipeline.model_process.starting import start
from pipeline.testing.model_settings import assignment
from tests.support import models

CUDA = "2.13.0+cu130"


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "torch", "number"),
    [
        ({}, CUDA, 2),
        ({}, "2.13.0", 2),
        ({}, "2.13.0+cpu", 0),
        ({}, "", 0),
        ({"CUDA_VISIBLE_DEVICES": "1"}, CUDA, 1),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, CUDA, 2),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, CUDA, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, CUDA, 0),
    ],
)
def test_gpus_are_counted_without_loading_torch(
    devices: Path, environ: dict[str, str], torch: str, number: int
) -> None:
    assert gpus.count(devices, environ, torch) == number


def test_a_machine_without_devices_has_no_gpu(tmp_path: Path) -> None:
    assert gpus.count(tmp_path / "none", {}, CUDA) == 0


def test_replicas_go_round_the_gpus() -> None:
    assert [gpus.place("auto", replica, 2) for replica in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [gpus.place("cuda", replica, 3) for replica in range(3)] == ["cuda:0", "cuda:1", "cuda:2"]


def test_without_a_gpu_or_on_request_replicas_use_the_cpu() -> None:
    assert gpus.place("auto", 0, 0) == gpus.place("cpu", 1, 2) == "cpu"
    assert (gpus.wanted("cpu", 2), gpus.wanted("auto", 2)) == (0, 2)


def test_a_required_gpu_that_is_missing_is_reported_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"^model\.device: [^\n]*\"auto\"[^\n]*$"):
        gpus.place("cuda", 0, 0)


def test_a_model_gets_its_device_when_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "count", lambda: 2)
    seen: list[str] = []
    monkeypatch.setattr(models.Measured, "load", lambda self, context: seen.append(context.device), raising=False)
    for number in range(3):
        start(assignment("predict", "tests.support.models:Measured", number=number, device="auto"))
    assert seen == ["cuda:0", "cuda:1", "cuda:0"]

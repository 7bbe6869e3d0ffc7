from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from examples.reference_1gb import Reference
from pipeline.model import LoadContext

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from examples.reference_1gb.gpu_copy import Channel, Cpu, device_of


@pytest.fixture(autouse=True)
def _torch() -> None:
    """Imported when these tests run, and not when they are collected."""
    import torch

    from examples.reference_1gb import gpu_copy

    names = {"Channel": gpu_copy.Channel, "Cpu": gpu_copy.Cpu, "device_of": gpu_copy.device_of, "torch": torch}
    globals().update(names)


class Fake:
    """A device that notes its calls, and whose copies are complete only after they were waited for."""

    def __init__(self, part_rows: int) -> None:
        self.part_rows = part_rows
        self.told: list[str] = []
        self._under_way: list[tuple[Tensor, Tensor]] = []
        self._number = {"in": 0, "out": 0}

    def copy_in(self, rows: Tensor) -> Tensor:
        self._tell("in")
        return self._begin(rows)

    def arrived(self, rows: Tensor) -> Tensor:
        self._end()
        self.told.append("wait")
        return rows

    def copy_out(self, results: Tensor) -> Tensor:
        self._tell("out")
        return self._begin(results)

    def synchronise(self) -> None:
        self.told.append("synchronise")
        self._end()

    def _tell(self, way: str) -> None:
        self.told.append(f"{way} {self._number[way]}")
        self._number[way] += 1

    def _begin(self, source: Tensor) -> Tensor:
        target = torch.full_like(source, -1)
        self._under_way.append((target, source))
        return target

    def _end(self) -> None:
        for target, source in self._under_way:
            target.copy_(source)
        self._under_way.clear()


def test_the_next_part_is_copied_in_before_one_is_computed_and_all_is_waited_for_once() -> None:
    device = Fake(part_rows=2)
    batch = torch.arange(10).view(5, 2)

    def compute(rows: Tensor) -> Tensor:
        device.told.append(f"compute {rows[0, 0].item()}")
        return rows * 10

    assert torch.equal(Channel(device).run(batch, compute), batch * 10)
    assert device.told == [
        *("in 0", "wait", "in 1", "compute 0", "out 0"),
        *("wait", "in 2", "compute 4", "out 1"),
        *("wait", "compute 8", "out 2", "synchronise"),
    ]


def test_a_batch_that_fits_is_one_part() -> None:
    for rows in (1, 8):
        device = Fake(part_rows=8)
        batch = torch.arange(rows).view(rows, 1)
        assert torch.equal(Channel(device).run(batch, torch.neg), -batch)
        assert device.told == ["in 0", "wait", "out 0", "synchronise"]


def test_on_a_cpu_nothing_is_copied() -> None:
    batch = torch.arange(1000).view(500, 2)
    device = device_of("cpu")
    assert isinstance(device, Cpu)
    assert Channel(device).run(batch, lambda rows: rows).data_ptr() == batch.data_ptr()


def test_the_reference_scores_the_same_through_a_device_that_takes_parts(tmp_path: Path) -> None:
    model = Reference()
    model.load(LoadContext(options={"layers": 1, "width": 64, "length": 8, "weights": str(tmp_path / "w")}))
    items = [{"tokens": [number]} for number in range(5)]
    whole = [row["scores"] for row in model.predict(items)]
    device = Fake(part_rows=2)
    model._channel = Channel(device)
    parts = [row["scores"] for row in model.predict(items)]
    assert np.allclose(parts, whole, atol=1e-5) and len({tuple(row) for row in parts}) == 5
    assert device.told[-2:] == ["out 2", "synchronise"]

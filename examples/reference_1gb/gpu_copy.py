"""Copies batches to a device and results back while the device computes.

A batch is processed in parts. While the device computes one part, the next is copied to it and the last one's results
are copied back, on a stream of their own and from pinned memory, so the device does not wait for copies. On a CPU there
is nothing to copy, and a batch is one part.

Importing this module imports torch, so models import it in ``load``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

PART_ROWS = 64
"""Rows of a part on a GPU: enough to keep it busy, few enough that a batch of hundreds overlaps with its copies."""


class Device(Protocol):
    """Copies to and from a device. ``part_rows``: how many rows of a batch it computes at once; 0: all."""

    part_rows: int

    def copy_in(self, rows: Tensor) -> Tensor:
        """Begin to copy rows to the device."""

    def arrived(self, rows: Tensor) -> Tensor:
        """Return the rows that :meth:`copy_in` returned, for use from here on: later computations wait for the copy."""

    def copy_out(self, results: Tensor) -> Tensor:
        """Begin to copy results back. Do not read them before :meth:`synchronise`."""

    def synchronise(self) -> None:
        """Return once every copy is complete."""


class Channel:
    """Runs batches on a device. Use it from one thread, as a device's streams require."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def run(self, batch: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute each part of the batch's rows on the device; results are in the batch's order.

        On a GPU ``compute`` only starts the work and must not read its results.
        """
        device = self._device
        parts = torch.split(batch, device.part_rows or max(1, len(batch)))
        results = []
        ahead = device.copy_in(parts[0])
        for number in range(len(parts)):
            rows = device.arrived(ahead)
            if number + 1 < len(parts):
                ahead = device.copy_in(parts[number + 1])
            results.append(device.copy_out(compute(rows)))
        device.synchronise()
        return torch.cat(results) if len(results) > 1 else results[0]


def device_of(name: str) -> Device:
    """Return the device named ``cpu`` or ``cuda:N``."""
    return Cpu() if name == "cpu" else Cuda(name)


class Cpu:
    """The CPU: nothing is copied."""

    part_rows = 0

    def copy_in(self, rows: Tensor) -> Tensor:
        """Return the rows unchanged."""
        return rows

    def arrived(self, rows: Tensor) -> Tensor:
        """Return the rows unchanged."""
        return rows

    def copy_out(self, results: Tensor) -> Tensor:
        """Return the results unchanged."""
        return results

    def synchronise(self) -> None:
        """Return at once."""
        return


class Cuda:
    """One GPU. Copies use a stream of their own, next to the one that computes.

    ``record_stream`` keeps the memory of a copy alive until it has ended
    (https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA streams").
    """

    part_rows = PART_ROWS

    def __init__(self, name: str) -> None:
        self._device = torch.device(name)
        torch.cuda.set_device(self._device)
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._copied_in = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def copy_in(self, rows: Tensor) -> Tensor:
        """Begin to copy rows from pinned memory, on the copying stream."""
        with torch.cuda.stream(self._copies):
            there = rows.pin_memory().to(self._device, non_blocking=True)
            self._copied_in.record(self._copies)
        return there

    def arrived(self, rows: Tensor) -> Tensor:
        """Let the computing stream wait for the copy."""
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(self._copied_in)
        rows.record_stream(computing)
        return rows

    def copy_out(self, results: Tensor) -> Tensor:
        """Begin to copy results into pinned memory once they are computed."""
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            here = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
            here.copy_(results, non_blocking=True)
        results.record_stream(self._copies)
        return here

    def synchronise(self) -> None:
        """Wait for the copying stream."""
        self._copies.synchronize()

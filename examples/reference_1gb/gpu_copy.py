"""How batches get to a device and results back, while it computes: what to copy when, and CUDA's way to copy.

A batch goes in parts. While the device computes one, the next is copied in and the last one's results are copied out,
on a stream of their own and from pinned memory, so that the device does not wait for the copies. On a CPU there is
nothing to copy, and a batch is one part.

Importing this imports torch, so models import it in ``load``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

PART_ROWS = 64
"""Rows of a part on a GPU: enough to fill one, few enough that a batch of hundreds overlaps with its copies."""


class Device(Protocol):
    """``part_rows``: how many rows of a batch it computes at once; 0: all."""

    part_rows: int

    def copy_in(self, rows: Tensor) -> Tensor:
        """Begin to copy to the device."""

    def arrived(self, rows: Tensor) -> Tensor:
        """What :meth:`copy_in` returned, for what is computed from here on: that waits for the copy."""

    def copy_out(self, results: Tensor) -> Tensor:
        """Begin to copy back what has been computed; not to be read before :meth:`synchronise`."""

    def synchronise(self) -> None:
        """Every copy that was begun is whole when this returns."""


class Channel:
    """For one thread, as a device's streams are."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def run(self, batch: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute`` on the device for each part of the batch's rows; the results are in the batch's order.

        ``compute`` only begins, where the device works by itself: it may not look at what it computes.
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
    """``cpu``, or ``cuda:N``."""
    return Cpu() if name == "cpu" else Cuda(name)


class Cpu:
    """Everything is where it is needed."""

    part_rows = 0

    def copy_in(self, rows: Tensor) -> Tensor:
        return rows

    def arrived(self, rows: Tensor) -> Tensor:
        return rows

    def copy_out(self, results: Tensor) -> Tensor:
        return results

    def synchronise(self) -> None:
        return


class Cuda:
    """One GPU. Copies go over a stream beside the one that computes; ``record_stream`` keeps what they use alive until
    they have ended (https://docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA streams")."""

    part_rows = PART_ROWS

    def __init__(self, name: str) -> None:
        self._device = torch.device(name)
        torch.cuda.set_device(self._device)
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._copied_in = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def copy_in(self, rows: Tensor) -> Tensor:
        with torch.cuda.stream(self._copies):
            there = rows.pin_memory().to(self._device, non_blocking=True)
            self._copied_in.record(self._copies)
        return there

    def arrived(self, rows: Tensor) -> Tensor:
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(self._copied_in)
        rows.record_stream(computing)
        return rows

    def copy_out(self, results: Tensor) -> Tensor:
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            here = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
            here.copy_(results, non_blocking=True)
        results.record_stream(self._copies)
        return here

    def synchronise(self) -> None:
        self._copies.synchronize()

"""Small models for tests of the model host. A record says what it does to them: ``{"do": "segfault"}``."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import tests.support.without_pandas  # noqa: F401
from pipeline.errors import Fatal, ModelError
from pipeline.model import LoadContext, Model, RecordInfo, Reject
from pipeline.model_process import frames

MIB = 1024 * 1024


class Toy:
    """Inherits from no class. Options: ``calls``, a file that gets a line with the batch's size per predict."""

    output_schema = pa.schema([("n", pa.int64()), ("x", pa.float64())])

    lost = False

    def load(self, context: LoadContext) -> None:
        self.calls = context.options.get("calls")

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        if self.calls:
            with Path(self.calls).open("a") as file:
                file.write(f"{len(items)}\n")
        if self.lost:
            lose_device()
        results = [self.one(item, len(items)) for item in items]
        return [result for result in results if result is not None]

    def one(self, item: Mapping[str, Any], beside: int) -> Any:
        action = item.get("do", "well")
        if action in ANSWERS:
            return ANSWERS[action]
        if "mark" in item and action != "once":
            Path(item["mark"]).touch()
        self.lost = self.lost or action == "lose device"
        if action in DEEDS:
            DEEDS[action]()
        if action == "memory" and beside > item["fits"]:
            raise MemoryError
        if action == "once" and not Path(item["mark"]).exists():
            Path(item["mark"]).touch()
            raise RuntimeError("only once")
        return {"n": item.get("n", 0), "x": float(os.getsid(0)) if action == "tell" else 0.5, "more": "is left out"}


def fail() -> None:
    raise ValueError("no such \ud800 luck")


def give_up() -> None:
    raise Fatal("the weights are gone")


def lose_device() -> None:
    raise RuntimeError("CUDA error: device-side assert triggered")


def say() -> None:
    print("said on stdout")
    print("said on stderr", file=sys.stderr)


def stop_python() -> None:
    """Never lets Python run again: only the kernel can end this."""
    ctypes.PyDLL(None).pause()


def allocate_in_c(mib: int) -> None:
    """Behaves like a library that trusts malloc."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    ctypes.memset(library.malloc(ctypes.c_size_t(mib * MIB)), 1, mib * MIB)


def leave_child() -> None:
    """A child that has every descriptor of the replica, and outlives it unless something ends it."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(3)


ANSWERS: dict[str, Any] = {
    "nan": {"n": 1, "x": float("nan")},
    "inf": {"n": 1, "x": float("inf")},
    "no column": {"n": 1},
    "text": {"n": "one", "x": 1.0},
    "no mapping": "what?",
    "reject": Reject("not to my taste"),
    "leave out": None,
}

DEEDS: dict[str, Callable[[], object]] = {
    "raise": fail,
    "leave": sys.exit,
    "fatal": give_up,
    "lose device": lose_device,
    "say": say,
    "exit": lambda: os._exit(3),
    "abort": os.abort,
    "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "hang": lambda: time.sleep(600),
    "stop python": stop_python,
    "leave child": leave_child,
    "slow": lambda: time.sleep(0.2),
}


class Measured(Toy, Model):
    """Has its own cost, and a batch that pads."""

    pads = True

    def cost(self, item: Mapping[str, Any]) -> int:
        if item.get("measure") == "exit":
            os._exit(4)
        if item.get("measure") == "reject":
            raise Reject("too long")
        if item.get("measure") == "text":
            return "long"  # type: ignore[return-value]
        return int(item.get("n", 0))


class Identity:
    """Does nothing, to measure the cost of everything else."""

    output_schema = pa.schema([("size", pa.int64())])

    def decode(self, data: bytes) -> bytes:
        return data

    def predict(self, items: Sequence[bytes]) -> list[dict[str, int]]:
        return [{"size": len(item)} for item in items]


class Threads:
    """The numbers of threads that torch, OpenMP and MKL would use, and the environment before torch was imported."""

    output_schema = pa.schema(
        [("before", pa.string())] + [(name, pa.int64()) for name in ("n", "torch", "openmp", "mkl")]
    )

    def load(self, context: LoadContext) -> None:
        assert "torch" not in sys.modules
        self.before = f"{os.environ['OMP_NUM_THREADS']} {os.environ['MKL_NUM_THREADS']}"

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        import torch

        told = dict(re.findall(r"(omp|mkl)_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info()))
        openmp, mkl = (int(told[name]) if name in told else None for name in ("omp", "mkl"))
        row = {"before": self.before, "torch": torch.get_num_threads(), "openmp": openmp, "mkl": mkl}
        return [{"n": item["n"], **row} for item in items]


class Embedding:
    output_schema = pa.schema([("vector", pa.list_(pa.float32(), 4))])

    def predict(self, items: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"vector": np.full(4, item["fill"], np.float32)} for item in items]


class NoPredict:
    output_schema = Toy.output_schema


class NoSchema:
    def predict(self, items: Sequence[Any]) -> list[Any]:
        return list(items)


class NoWeights(Toy):
    def load(self, context: LoadContext) -> None:
        raise ModelError("weights.safetensors: cannot be read")


class FailsToLoad(Toy):
    def load(self, context: LoadContext) -> None:
        raise RuntimeError("no such\ndevice")


class DiesLoading(Toy):
    def load(self, context: LoadContext) -> None:
        os._exit(9)


class HangsLoading(Toy):
    def load(self, context: LoadContext) -> None:
        time.sleep(600)


class LoadsWhile(Toy):
    """Its weights disappear once they have been loaded, and return when ``options.mark`` is removed."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        mark = Path(context.options["mark"])
        if mark.exists():
            raise ModelError("the weights are gone")
        if not mark.with_suffix(".once").exists():
            mark.touch()
            mark.with_suffix(".once").touch()


class DiesIdle(Toy):
    """Ends a moment after it has loaded."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        threading.Timer(0.05, lambda: os._exit(5)).start()


class FailsItsExample(Toy):
    def example(self) -> dict[str, str]:
        return {"do": "reject"}


class StartsChildren(Toy):
    """Has a child process, whose id it writes to ``options.child``."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        child = subprocess.Popen(["sleep", "600"])
        Path(context.options["child"]).write_text(str(child.pid))


class Hungry(Toy):
    """Takes as many MiB for each item as the item says, all at once; ``at_load``: also from the start."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.weights = bytearray(context.options.get("at_load", 0) * MIB)

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        rows = super().predict(items)
        for item in items:
            if item.get("by") == "c":
                allocate_in_c(item["mib"])
        taken = [bytearray(item["mib"] * MIB) for item in items]
        return rows if len(taken) == len(items) else []


class Leaky(Toy):
    """Keeps 40 MiB of each call."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.kept: list[bytearray] = []

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        self.kept.append(bytearray(40 * MIB))
        return super().predict(items)


class HungryDecoder(Toy, Model):
    """Its items are large; its computation needs little memory."""

    def decode(self, data: bytes) -> dict[str, Any]:
        item = super().decode(data)
        return {**item, "pixels": bytearray(item["mib"] * MIB)}


class Mapped(Threads):
    """Weights mapped by safetensors for torch, all of them read by each predict; takes memory like torch."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        from safetensors.torch import load_file

        self.weights = load_file(context.options["weights"])["weights"]

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        import torch

        rows = super().predict(items)
        assert not self.weights.any()
        taken = [torch.empty(item["mib"] * MIB, dtype=torch.uint8).fill_(1) for item in items]
        return rows if len(taken) == len(items) else []


class Device(Toy):
    """Computes on a device that is lost while ``options.lost`` exists."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.mark = Path(context.options["lost"])

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        if self.mark.exists():
            lose_device()
        return super().predict(items)


class Forks(Toy):
    """Has children that continue as if they were the replica: one from the start, and one of each batch whose items say
    how."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        os.fork()

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        rows = super().predict(items)
        way = items[0].get("fork")
        if way == "predict":
            os.fork()
        elif way == "native":
            ctypes.PyDLL(None).fork()
        elif way == "exits" and os.fork() == 0:
            sys.exit(7)
        return rows


def doubled(n: int) -> int:
    return 2 * n


class HasAPool(Toy):
    """Uses processes of its own, started with ``options.method``."""

    def load(self, context: LoadContext) -> None:
        import multiprocessing  # here, so that the other models start without it

        super().load(context)
        self.pool = multiprocessing.get_context(context.options["method"]).Pool(2)

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [{"n": twice // 2, "x": 0.5} for twice in self.pool.map(doubled, [item["n"] for item in items])]


class Steals(Toy):
    """``do: steal``: a child reads the replica's socket, and so takes all or part of the next request. ``write``: it
    writes zeros there; ``forge``: an answer, with a seal of ``bytes`` bytes.
    """

    def one(self, item: Mapping[str, Any], beside: int) -> Any:
        if item.get("do") in {"steal", "write", "forge"}:
            descriptor = next(
                int(name)
                for name in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{name}")
                and os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
            )
            pass_to_child(descriptor, item["do"], item["bytes"])
        return {"n": item.get("n", 0), "x": 0.5}


def forged(seal_size: int) -> bytes:
    """A whole frame that answers no request of the host."""
    return b"".join(frames.sealed(frames.pack("failed", {"kind": "exception"}), os.urandom(seal_size)))


def pass_to_child(descriptor: int, deed: str, size: int) -> None:
    """A child that Python does not know, so nothing is closed in it."""
    if ctypes.PyDLL(None).fork() == 0:
        if deed == "steal":
            os.read(descriptor, size)
        else:
            os.write(descriptor, bytes(size) if deed == "write" else forged(size))
        os._exit(0)


class LeavesDaemons(Toy):
    """Starts a process in another session and another environment, whose parent ends."""

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.mark = Path(context.options["child"])
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                self.mark.write_text(str(os.getpid()))
                os.execve("/bin/sleep", ["sleep", "600"], {})
            os._exit(0)
        os.wait()
        while not self.mark.exists() or not self.mark.read_text():
            time.sleep(0.01)


class Surroundings(Toy):
    """Returns what its process has: environment, descriptors, limits."""

    output_schema = pa.schema([("told", pa.string())])

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.threads = context.threads

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        descriptors = {}
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
        told = {
            "environment": dict(os.environ),
            "descriptors": descriptors,
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "modules": sorted(sys.modules),
            "threads": self.threads,
            "session": os.getsid(0),
        }
        return [{"told": json.dumps(told)} for _ in items]


def predict_items(items: Sequence[Any]) -> list[Any]:
    """Something that a newcomer may name as the factory."""
    return [{"n": 1, "x": 1.0} for _ in items]


def makes_nothing() -> None:
    """Forgets to return the model."""


def makes_a_class() -> type[Toy]:
    return Toy


async def makes_later() -> Toy:
    return Toy()


class WantsArguments(Toy):
    def __init__(self, path: str) -> None:
        self.path = path


class Curious(Toy):
    """Returns the records that it was given. When closed, it writes a line to the file ``closed`` and does what ``end``
    says."""

    output_schema = pa.schema(
        [("n", pa.int64()), *((name, pa.string()) for name in ("id", "shard", "key", "at"))],
    )

    def load(self, context: LoadContext) -> None:
        super().load(context)
        self.options = context.options

    def example(self) -> Any:
        return {"n": 0}

    def predict(self, items: Sequence[Mapping[str, Any]], records: Sequence[RecordInfo] = ()) -> list[Any]:
        results = super().predict(items)
        return [
            result if isinstance(result, Reject) else {"n": result["n"], **self.told(record)}
            for result, record in zip(results, records, strict=False)
        ]

    def told(self, record: RecordInfo) -> dict[str, Any]:
        at = record.arrived_at.isoformat()
        return {"id": record.record_id, "shard": record.shard_id, "key": ascii(record.partition_key), "at": at}

    def close(self) -> None:
        with Path(self.options["closed"]).open("a") as file:
            file.write("closed\n")
        DEEDS.get(self.options.get("end", ""), str)()


class WantsMore(Toy):
    def predict(self, items: Sequence[Mapping[str, Any]], threshold: float, records: Any = None) -> list[Any]:  # type: ignore[override]
        return []

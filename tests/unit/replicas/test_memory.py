"""Memory: how it is divided, where its limit is read, and what is learned from a batch that did not fit."""

from __future__ import annotations

import errno
import weakref
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.machine.memory import HOST_MIB, JVM_MIB, LEAST_MIB, share_mib, task_mib
from pipeline.model_process.memory_limit import give_back, on_gpu, ran_out
from pipeline.replicas.safe_cost import CREEP_PASSES, SafeCost

GIB_KB = 1024 * 1024
NO_LIMIT = 9223372036854771712
"""The text with which cgroup v1 says that there is no limit."""


def machine(root: Path, total_gib: int, **files: str) -> Path:
    """A machine's ``/proc`` and cgroups, in a folder. ``files``: by path, with dots for slashes."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal:       {total_gib * GIB_KB} kB\nMemFree: 1 kB\n")
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def v2(root: Path, path: str, **limits: str) -> Path:
    """``limits``: by the cgroup's path, with two underscores for a slash."""
    files = {f"sys/fs/cgroup/{group.replace('__', '/')}/memory.max": text for group, text in limits.items()}
    return machine(root, 64, **{"proc/self/cgroup": f"0::{path}"}, **files)


def v1(root: Path, path: str, **limits: str) -> Path:
    files = {
        f"sys/fs/cgroup/memory/{group.replace('__', '/')}/memory.limit_in_bytes": text for group, text in limits.items()
    }
    groups = f"11:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:{path}"
    return machine(root, 64, **{"proc/self/cgroup": groups}, **files)


def test_replicas_share_the_remaining_memory() -> None:
    left = 8192 - 512 - JVM_MIB - 256 - HOST_MIB
    assert share_mib(8192, heap_mib=512, in_flight_mib=256, replicas=1) == left
    assert share_mib(8192, heap_mib=512, in_flight_mib=256, replicas=4) == left // 4


def test_too_little_memory_shows_the_sum() -> None:
    with pytest.raises(ConfigError) as raised:
        share_mib(2048, heap_mib=512, in_flight_mib=256, replicas=8)
    assert raised.value.problem == (
        "of the task's 2048 MiB, kcl.java_heap_mib 512 + 192 for the JVM + in_flight.total_mib 256 + 512 for the host "
        "leave 576 MiB for 8 replicas. Each replica needs at least 128 MiB"
    )


def test_a_task_smaller_than_its_jvm_has_nothing_left() -> None:
    with pytest.raises(ConfigError, match="leave 0 MiB for 1 replica"):
        share_mib(1024, heap_mib=512, in_flight_mib=256, replicas=1)


def test_the_least_share_is_enough() -> None:
    assert share_mib(LEAST_MIB + JVM_MIB + HOST_MIB + 80, heap_mib=64, in_flight_mib=16, replicas=1) == LEAST_MIB


def test_an_unknown_memory_means_no_limit() -> None:
    assert share_mib(None, heap_mib=512, in_flight_mib=256, replicas=1) == 0


def test_without_a_limit_the_machine_counts(tmp_path: Path) -> None:
    assert task_mib(machine(tmp_path, 16)) == 16 * 1024


def test_without_a_source_the_memory_is_unknown(tmp_path: Path) -> None:
    assert task_mib(tmp_path) is None


def test_the_limit_of_cgroup_2_counts(tmp_path: Path) -> None:
    assert task_mib(v2(tmp_path, "/", **{".": str(2 << 30)})) == 2048


def test_a_cgroup_is_held_by_its_parents_too(tmp_path: Path) -> None:
    limits = {"task": str(3 << 30), "task__container": "max", "task__container__own": str(4 << 30)}
    assert task_mib(v2(tmp_path, "/task/container/own", **limits)) == 3072


def test_the_limit_of_cgroup_1_counts(tmp_path: Path) -> None:
    assert task_mib(v1(tmp_path, "/ecs/task", ecs__task=str(1 << 30), ecs=str(NO_LIMIT))) == 1024


def test_where_the_hosts_path_is_not_to_be_seen_the_top_counts(tmp_path: Path) -> None:
    assert task_mib(v1(tmp_path, "/docker/0123", **{".": str(1 << 30)})) == 1024


def test_no_limit_of_cgroup_1_is_none(tmp_path: Path) -> None:
    assert task_mib(v1(tmp_path, "/", **{".": str(NO_LIMIT)})) == 64 * 1024


class OutOfMemoryError(RuntimeError):
    """An error with the name that torch's has."""


def caused(cause: BaseException) -> ValueError:
    error = ValueError("cannot embed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("could not create a primitive"),
        caused(MemoryError()),
    ],
    ids=repr,
)
def test_every_library_says_it_in_its_own_way(error: BaseException) -> None:
    assert ran_out(error)


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), OSError(errno.ENOSPC, "full"), RuntimeError("CUDA error"), caused(KeyError("a"))],
    ids=repr,
)
def test_other_errors_are_not_about_memory(error: BaseException) -> None:
    assert not ran_out(error)


def test_a_process_that_has_opened_a_gpu_is_known_by_its_mappings() -> None:
    library = "7f3ac8a00000-7f3ac8c00000 r-xp 00000000 fd:00 181 /usr/lib/x86_64-linux-gnu/libcuda.so.550.54\n"
    opened = "7f3ad4000000-7f3ad4001000 rw-s 00000000 00:05 511 /dev/nvidiactl\n"
    assert not on_gpu(library)
    assert on_gpu(library + opened)


def test_the_documents_have_the_sum() -> None:
    text = " ".join((Path(__file__).parents[3] / "docs" / "configuration.md").read_text().split())
    assert (
        f"`kcl.java_heap_mib` + {JVM_MIB} MiB for the JVM, `in_flight.total_mib`, and {HOST_MIB} MiB for the host"
        in text
    )
    assert f"at least {LEAST_MIB} MiB" in text


def test_memory_of_a_failed_call_is_freed() -> None:
    class Tensor:
        pass

    def fail() -> None:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise MemoryError

    held: list[weakref.ref[Tensor]] = []
    with pytest.raises(MemoryError) as raised:
        fail()
    assert held[0]() is not None
    give_back(raised.value)
    assert held[0]() is None


def pass_at_limit(safe: SafeCost, times: int) -> None:
    for _ in range(times):
        safe.passed(2, safe.limit)


def test_nothing_is_known_at_first() -> None:
    safe = SafeCost()
    safe.passed(64, 9_000)
    safe.passed(64, 9_000, after=True)
    assert safe.limit == 0


def test_a_batch_that_ran_out_of_memory_halves_the_limit() -> None:
    safe = SafeCost()
    safe.ran_out(64, 1000)
    assert safe.limit == 500
    safe.ran_out(32, 500)
    assert safe.limit == 250
    safe.ran_out(64, 1000)  # was formed before
    assert safe.limit == 250


def test_a_record_that_runs_out_alone_teaches_nothing() -> None:
    safe = SafeCost()
    safe.ran_out(1, 1000)
    assert safe.limit == 0


def test_the_limit_rises_while_batches_near_it_pass() -> None:
    safe = SafeCost()
    safe.ran_out(2, 1600)
    pass_at_limit(safe, CREEP_PASSES)
    assert safe.limit == 900
    for _ in range(10 * CREEP_PASSES):
        safe.passed(2, 100)
    assert safe.limit == 900


def test_the_limit_of_a_batch_is_dropped_in_time() -> None:
    safe = SafeCost()
    safe.ran_out(2, 64)
    pass_at_limit(safe, CREEP_PASSES * 7)
    assert safe.limit == 0


def test_one_large_record_does_not_shrink_later_batches_for_ever() -> None:
    """It is found by halving; records that then pass alone show how many fit together."""
    safe = SafeCost()
    for size in (64, 32, 16, 8, 4, 2):
        safe.ran_out(size, size)
    assert safe.limit == 1
    safe.ran_out(1, 1)
    safe.passed(63, 63, after=True)
    assert safe.limit == 63


def test_when_as_much_passes_as_ran_out_nothing_is_known_again() -> None:
    safe = SafeCost()
    safe.ran_out(8, 100)
    safe.passed(8, 100, after=True)
    assert safe.limit == 0
    safe.ran_out(2, 10)
    assert safe.limit == 5

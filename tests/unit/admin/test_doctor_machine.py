"""``penstock doctor``: Java, memory, disk, the model and the drain."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from consumer.admin.check_model import Loaded
from consumer.admin.doctor import machine
from consumer.admin.doctor.findings import Level
from pipeline.errors import Fatal, UserError
from tests.support.examined import GREEN, MIB, RED, YELLOW, level_of, subject


def test_java_is_found_and_started() -> None:
    assert level_of("java", subject()) is GREEN


@pytest.mark.parametrize(
    ("version", "level"), [("1.7.0_80", RED), ("1.8.0_392", GREEN), ("17.0.9", GREEN), ("25", GREEN)]
)
def test_java_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: Level) -> None:
    java = tmp_path / "java"
    java.write_text(
        f"#!/bin/sh\necho 'Picked up JAVA_TOOL_OPTIONS: -Xx' >&2\necho 'openjdk version \"{version}\" 2020' >&2\n"
    )
    java.chmod(0o755)
    monkeypatch.setattr(machine, "find_java", lambda: java)
    assert level_of("java", subject()) is level


def test_java_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_java", lambda: tmp_path / "none")
    assert level_of("java", subject()) is RED


def test_java_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise UserError("No Java found. Run: pip install")

    monkeypatch.setattr(machine, "find_java", none)
    monkeypatch.setattr(machine, "find_jars", none)
    assert level_of("java", subject()) is RED
    assert level_of("kcl", subject()) is RED


@pytest.mark.parametrize(("version", "level"), [("3.1.3", GREEN), ("3.9.0", YELLOW)])
def test_the_version_of_kcl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: Level) -> None:
    (tmp_path / f"amazon-kinesis-client-multilang-{version}.jar").touch()
    monkeypatch.setattr(machine, "find_jars", lambda: tmp_path)
    assert level_of("kcl", subject()) is level


@pytest.mark.parametrize(("threads", "level"), [(2, GREEN), (3, YELLOW), (5, RED)])
def test_threads_against_cores(threads: int, level: Level) -> None:
    assert level_of("cores", subject(settings={"model": {"threads": threads}})) is level


@pytest.mark.parametrize(
    ("task_mib", "model_mib", "level"),
    [(8192, "auto", GREEN), (1024, "auto", RED), (8192, 7000, RED), (8192, 4000, GREEN), (None, "auto", YELLOW)],
)
def test_memory(task_mib: int | None, model_mib: Any, level: Level) -> None:
    examined = subject(settings={"model": {"memory_mib": model_mib}})
    examined.machine = dataclasses.replace(examined.machine, memory_mib=task_mib)
    assert level_of("memory", examined) is level


@pytest.mark.parametrize(
    ("heap_mib", "tasks", "most", "level"),
    [(512, 1, 0, GREEN), (256, 1, 0, YELLOW), (128, 1, 0, RED), (128, 4, 0, YELLOW), (160, 1, 1, GREEN)],
)
def test_heap_against_shards(heap_mib: int, tasks: int, most: int, level: Level) -> None:
    kcl = {"java_heap_mib": heap_mib, "max_leases": most}
    assert level_of("heap", subject(settings={"kcl": kcl}, tasks=tasks)) is level


@pytest.mark.parametrize(("free_mib", "level"), [(5000, GREEN), (500, YELLOW), (50, RED)])
def test_disk(tmp_path: Path, free_mib: int, level: Level) -> None:
    looked: list[Path] = []

    def free_bytes(folder: Path) -> int:
        looked.append(folder)
        return free_mib * MIB

    url = str(tmp_path / "table" / "deep")
    examined = subject(settings={"sink": [{"type": "parquet", "url": url}]})
    examined.machine = dataclasses.replace(examined.machine, free_bytes=free_bytes)
    assert level_of("disk", examined) is level
    assert tmp_path in looked


def test_the_model() -> None:
    assert level_of("model", subject()) is GREEN
    assert level_of("model", subject(loads_model=False)) is YELLOW
    assert level_of("model", subject(_loaded=Loaded(1, None, ("two columns differ in case",)))) is YELLOW


def test_a_model_that_is_not_there_or_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    examined = subject(settings={"model": {"factory": "no_such_module:Model"}})
    del examined.__dict__["_loaded"]
    assert level_of("model", examined) is RED

    attempts = []

    def load(settings: Any) -> Loaded:
        attempts.append(settings)
        raise Fatal("weights.bin has another hash than it should")

    monkeypatch.setattr("consumer.admin.check_model.load", load)
    examined = subject()
    del examined.__dict__["_loaded"]
    assert level_of("model", examined) is RED
    assert (level_of("drain", examined), level_of("columns", examined)) == (YELLOW, YELLOW)
    assert len(attempts) == 1, "a model that fails may take minutes to do so"


@pytest.mark.parametrize(
    ("example_s", "level"), [(0.1, GREEN), (None, YELLOW), (60, RED)], ids=["fits", "unknown", "too long"]
)
def test_the_drain(example_s: float | None, level: Level) -> None:
    assert level_of("drain", subject(_loaded=Loaded(1, example_s, ()))) is level

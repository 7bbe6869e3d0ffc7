"""A profile is used only where it is valid; the log says which one is used, or why none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumer.build import learner, model_settings
from consumer.cli import main
from consumer.config import profile
from consumer.config.load import load
from consumer.config.profile import Profile, circumstances, counts, find, path_of
from consumer.config.settings import Settings
from pipeline.batching.batcher import BatchPlan
from pipeline.errors import UserError
from pipeline.machine.cores import resolve
from pipeline.replicas.host import ModelSpec

CONFIG = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "examples.hello:Sentiment"
version = "1"
options = { good = ["yes"] }
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG)
    return load(path, {})


def measured(settings: Settings, **more: Any) -> Profile:
    made = Profile(
        replicas=3,
        threads=5,
        records=16,
        cost=0,
        records_per_s=123.4,
        call_ms=5.6,
        measured_at="2026-11-23T17:00:00+00:00",
        measured_for=circumstances(settings),
    )
    return replace(made, **more)


def lay(settings: Settings, made: Profile) -> Path:
    assert settings.path is not None
    profile.write(made, path_of(settings.path))
    return path_of(settings.path)


def test_a_profile_that_holds_says_replicas_threads_and_the_first_batch(settings: Settings) -> None:
    lay(settings, measured(settings))
    host = model_settings(settings)
    assert (host.replicas, host.threads) == (3, 5)
    batch_sizes = learner(settings, ModelSpec(None, measures=False, pads=False))
    assert batch_sizes is not None and batch_sizes.plan == BatchPlan(16)
    assert find(settings).said == "penstock.profile.json of 2026-11-23T17:00:00+00:00: replicas 3, threads 5"


def test_a_written_profile_is_read_back(settings: Settings) -> None:
    made = measured(settings, cost=4096)
    path = lay(settings, made)
    assert find(settings).profile == made
    assert made.batch == (16, 4096)
    assert [each.name for each in path.parent.glob("*profile*")] == ["penstock.profile.json"]


def test_without_a_profile_the_cores_are_shared_out(settings: Settings) -> None:
    assert counts(settings) == resolve("auto", "auto")
    assert find(settings).said.startswith("no profile: ")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("factory", "examples.minilm:MiniLM"),
        ("version", "2"),
        ("options", "0123456789abcdef"),
        ("target_latency_ms", 50.0),
        ("cores", 96),
        ("cpu", "another"),
        ("gpus", 64),
        ("memory_mib", 2**40),
        ("penstock", "0.0.1"),
    ],
)
def test_a_profile_of_other_circumstances_is_not_used(settings: Settings, name: str, other: Any) -> None:
    lay(settings, measured(settings, measured_for=replace(circumstances(settings), **{name: other})))
    assert counts(settings) == resolve("auto", "auto")
    said = find(settings).said
    assert said.startswith("penstock.profile.json is not used: ") and said.count("; ") == 0
    assert ("memory" if name == "memory_mib" else name) in said


def test_more_memory_than_measured_keeps_the_profile_valid(settings: Settings) -> None:
    lay(settings, measured(settings, measured_for=replace(circumstances(settings), memory_mib=1)))
    assert counts(settings) == (3, 5)


def test_a_number_that_is_set_stands_against_a_profile_of_another(settings: Settings) -> None:
    made = measured(settings)
    lay(settings, made)
    for more, expected in (({"replicas": 2}, resolve(2, "auto")), ({"replicas": 3}, (3, 5)), ({"threads": 1}, (1, 1))):
        told = settings.model_copy(update={"model": settings.model.model_copy(update=more)})
        assert counts(told) == expected, more
    told = settings.model_copy(update={"model": settings.model.model_copy(update={"replicas": 2, "threads": 2})})
    assert counts(told) == (2, 2)
    assert find(told).profile is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "nonsense", '{"measured_for": 1}', "\xff", "REPLICAS", "MISSING", "TRUE"],
)
def test_a_file_that_is_not_a_profile_is_ignored_and_reported(settings: Settings, text: str) -> None:
    path = lay(settings, measured(settings))
    good = json.loads(path.read_text())
    broken = {"REPLICAS": {**good, "replicas": 0}, "MISSING": {**good, "threads": None}, "TRUE": {**good, "cost": True}}
    path.write_bytes(json.dumps(broken[text]).encode() if text in broken else text.encode("latin-1"))
    found = find(settings)
    assert found.profile is None
    assert found.said.startswith("penstock.profile.json is not used: ") and "\n" not in found.said
    assert counts(settings) == resolve("auto", "auto")


def test_a_folder_that_cannot_be_written_to_is_one_line(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        profile.write(measured(settings), tmp_path / "file" / "penstock.profile.json")


def test_config_show_prints_the_values_of_auto(settings: Settings) -> None:
    lay(settings, measured(settings))
    lines = CliRunner().invoke(main, ["config", "show", str(settings.path)]).stdout.splitlines()
    assert [line.split("# ")[1] for line in lines if line.startswith(("model.replicas", "model.threads"))] == [
        "default; here 3",
        "default; here 5",
    ]
    shown = json.loads(CliRunner().invoke(main, ["config", "show", str(settings.path), "--json"]).stdout)["settings"]
    assert shown["model.threads"] == {"value": "auto", "source": "default", "here": 5}

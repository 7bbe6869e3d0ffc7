"""Undo files of every command: never overwritten by another change, and replaced in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consumer.admin import undo_files
from pipeline.errors import UserError

SCHEMA = "penstock.test.undo/1"
BEFORE = {"schema": SCHEMA, "leases": ["a"]}


def held(path: Path) -> Any:
    return undo_files.read(path, SCHEMA, dict, command="penstock test")


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    undo_files.write(tmp_path / "undo", BEFORE)
    with pytest.raises(UserError, match=r"exists\. Give the undo file another name with --undo FILE"):
        undo_files.write(tmp_path / "undo", {**BEFORE, "leases": []})
    assert held(tmp_path / "undo") == BEFORE


def test_a_replacement_that_is_interrupted_leaves_the_file_before(tmp_path: Path) -> None:
    undo_files.write(tmp_path / "undo", BEFORE)
    with pytest.raises(TypeError):
        undo_files.write(tmp_path / "undo", {**BEFORE, "leases": [object()]}, again=True)
    assert held(tmp_path / "undo") == BEFORE
    undo_files.write(tmp_path / "undo", {**BEFORE, "leases": {"c", "b"}}, again=True)
    assert held(tmp_path / "undo") == {**BEFORE, "leases": ["b", "c"]}
    assert [each.name for each in tmp_path.iterdir()] == ["undo"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "penstock.other.undo/1"}', "\x00"])
def test_another_file_is_not_taken_for_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "undo").write_text(text)
    with pytest.raises(UserError, match=r"is not an undo file\. Name one that `penstock test` wrote"):
        held(tmp_path / "undo")


def test_files_that_are_not_there_or_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read .* Name an undo file that exists"):
        held(tmp_path / "none")
    with pytest.raises(UserError, match=r"cannot be written .* Name another with --undo FILE"):
        undo_files.write(tmp_path / "none" / "undo", BEFORE)

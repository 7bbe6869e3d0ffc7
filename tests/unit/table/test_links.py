"""Objects in a folder that readers would read or follow besides the table's files are reported; Penstock follows no
link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import Fatal
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.base import Denied
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import Problem, audit
from pipeline.table.names import Names
from tests.support.settled_records import SCHEMA, SHARD, record, runs

NAMES = Names(SHARD)
DAY = "dt=2026-11-18"


def table(root: Path) -> Path:
    chain, files = Chain(NAMES, flush_interval_s=0, flush_bytes=10**9), Files(FolderStore(root), NAMES, SCHEMA, None)
    chain.add(runs(1, 5).records, 0.0)
    chain.seal()
    while file := chain.next(0.0):
        chain.written(files.prepare(file, "w")())
    return root


def rows(root: Path) -> int:
    try:
        return len(pd.read_parquet(root))
    except OSError:  # a loop of links
        return 1 << 30


def linked_day(root: Path) -> None:
    (root / "dt=2026-11-19").symlink_to(DAY)


def loop(root: Path) -> None:
    (root / DAY / "loop").symlink_to(".")


def copy_elsewhere(root: Path) -> None:
    (root / "copy").symlink_to(table(root.with_name("elsewhere")) / DAY)


def linked_file(root: Path) -> None:
    (root / DAY / "copy.parquet").symlink_to(root / NAMES.key(record(1)))


def linked_under_a_name_of_the_tables(root: Path) -> None:
    (root / NAMES.key(record(5))).symlink_to(root / NAMES.key(record(1)))


def second_name(root: Path) -> None:
    os.link(root / NAMES.key(record(1)), root / DAY / "copy.parquet")


def second_name_of_the_tables(root: Path) -> None:
    os.link(root / NAMES.key(record(1)), root / NAMES.key(record(5)))


@pytest.mark.parametrize(
    "link",
    [
        linked_day,
        loop,
        copy_elsewhere,
        linked_file,
        linked_under_a_name_of_the_tables,
        second_name,
        second_name_of_the_tables,
    ],
)
def test_objects_that_readers_would_read_twice_are_reported(tmp_path: Path, link: Callable[[Path], None]) -> None:
    root = table(tmp_path / "table")
    assert audit(FolderStore(root)).problems == [] and rows(root) == 4
    link(root)
    assert rows(root) > 4
    problems = audit(FolderStore(root)).problems
    assert problems and all(problem.key for problem in problems)
    assert "link" not in link.__name__ or "pandas, pyarrow, Spark" in problems[0].detail


def test_objects_that_readers_skip_are_reported_as_such(tmp_path: Path) -> None:
    root = table(tmp_path / "table")
    (root / "_old").symlink_to(DAY)
    (root / ".old").symlink_to(DAY)
    assert rows(root) == 4
    assert {(each.key, "skip it" in each.detail) for each in audit(FolderStore(root)).problems} == {
        ("_old", True),
        (".old", True),
    }


def test_a_folder_that_the_auditor_cannot_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = table(tmp_path / "table")
    (root / "closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    [problem] = audit(FolderStore(root)).problems
    assert problem.key == "closed"


def test_the_root_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    table(tmp_path / "table")
    (tmp_path / "way").symlink_to("table")
    assert audit(FolderStore(tmp_path / "way")).problems == []


def test_a_writer_follows_no_link(tmp_path: Path) -> None:
    root, elsewhere = table(tmp_path / "table"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "dt=2026-11-19").symlink_to(elsewhere)
    (root / DAY / "deep").symlink_to(elsewhere)
    store = FolderStore(root)
    for key in ("dt=2026-11-19/a.parquet", f"{DAY}/deep/a.parquet", f"{DAY}/deep/deeper/a.parquet"):
        with pytest.raises(Denied, match="is a link"):
            store.put_new(key, b"x", {})
        (elsewhere / "a.parquet").write_bytes(b"x")
        assert store.get(key) is None and store.head(key) is None and store.end(key, 1) is None
        assert store.list(key) == []
        (elsewhere / "a.parquet").unlink()
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_the_next_file_is_not_adopted(tmp_path: Path) -> None:
    root = table(tmp_path / "table")
    (root / NAMES.key(record(5))).symlink_to(root / NAMES.key(record(1)))
    files = Files(FolderStore(root), NAMES, SCHEMA, None)
    chain = Chain(NAMES, flush_interval_s=0, flush_bytes=10**9, end=record(4).position)
    chain.add(runs(5, 7).records, 0.0)
    file = chain.next(0.0)
    assert file is not None
    with pytest.raises(Fatal, match="is not a file of this table"):
        files.prepare(file, "w2")()


@pytest.mark.parametrize("what", ["pipe", "folder", "sparse", "device"])
def test_objects_that_are_not_files_cost_no_time_and_no_memory(tmp_path: Path, what: str) -> None:
    root = table(tmp_path / "table")
    path = root / NAMES.key(record(5))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(50 << 30)
    store = FolderStore(root)
    assert Files(store, NAMES, SCHEMA, None).held(record(3), None) == record(4).position
    found: list[Problem] = audit(store).problems
    assert {problem.kind for problem in found} == (
        {"stray"} if what == "device" else set() if what == "folder" else {"unreadable"}
    )

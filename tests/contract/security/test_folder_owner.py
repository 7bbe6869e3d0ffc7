"""A table's folder must belong to the user, or the task refuses to start: no other user can replace a file."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.outages import Outages
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.stores import folder_owner
from pipeline.stores.base import Denied
from pipeline.stores.calls import SureCalls, Threads
from pipeline.stores.folder import FolderStore


def refused(folder: Path) -> str:
    with pytest.raises(Denied) as raised:
        FolderStore(folder).check()
    assert isinstance(raised.value, UserError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_parent_that_everybody_may_write_to_is_refused_at_any_height(tmp_path: Path) -> None:
    for name in ("a", "a/b", "a/b/c"):
        (tmp_path / name).mkdir()
    for name in ("a", "a/b", "a/b/c"):
        (tmp_path / name).chmod(0o777)
        assert f"every user may write to {tmp_path / name}" in refused(tmp_path / "a" / "b" / "c" / "table")
        (tmp_path / name).chmod(0o755)
    FolderStore(tmp_path / "a" / "b" / "c" / "table").check()


def test_with_the_sticky_bit_a_shared_folder_is_accepted(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    store = FolderStore(shared / "table")
    store.check()
    store.put_new("dt=2026-01-01/a", b"x", {})
    store.check()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give a folder away")
@pytest.mark.parametrize("name", ["table", "table.penstock", "table/dt=2026-01-01"])
def test_a_folder_that_another_user_made_first_is_refused(tmp_path: Path, name: str) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / name).mkdir(parents=True)
    os.chown(shared / name, 12345, 12345)
    assert "belongs to user 12345" in refused(shared / "table")


def test_a_folder_of_another_user_on_the_way_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_owner, "_trusted", lambda: (-1, -2))
    assert "belongs to user" in refused(tmp_path / "table")


@pytest.mark.parametrize("name", ["table", "table/dt=2026-01-01"])
def test_a_table_that_everybody_may_write_to_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name).chmod(0o777)
    assert f"chmod -R o-w {tmp_path / 'table'}" in refused(tmp_path / "table")


def test_a_way_over_a_link_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    assert f"every user may write to {tmp_path / 'link'}" in refused(tmp_path / "link" / "table")
    (tmp_path / "own").mkdir()
    (tmp_path / "open" / "way").symlink_to(tmp_path / "own")
    assert "every user may write to" in refused(tmp_path / "open" / "way" / "table")


def test_a_link_in_the_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "dt=2026-01-01").symlink_to(tmp_path)
    assert "is a link" in refused(tmp_path / "table")


def test_created_folders_are_writable_only_by_the_user_for_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = FolderStore(tmp_path / "deep" / "table")
        store.check()
        store.put_new("dt=2026-01-01/a", b"x", {})
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_dir()}
    assert modes == {0o755}
    store.check()


def test_the_folder_of_notes_is_held_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "dead.suspects").mkdir()
    (tmp_path / "dead.suspects").chmod(0o777)

    async def switches(_: str) -> int:
        return 0

    async def check() -> None:
        surely = SureCalls(Threads("suspects"), Outages().part("suspects"))
        await CrashJournal(FolderStore(tmp_path / "dead.suspects"), surely, switches=switches).check()

    with pytest.raises(UserError, match="chmod -R o-w"):
        asyncio.run(check())

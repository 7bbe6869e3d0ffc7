"""Run folders with real processes: the folder of a killed host is removed at the next start, that of a running host is
not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumer.kcl.run_folder import YOUNG_S, RunFolder, sweep
from pipeline.errors import UserError
from tests.support.hosts import ROOT

HOST = """
import sys, time
from pathlib import Path
from consumer.kcl.run_folder import RunFolder
print(RunFolder(Path(sys.argv[1])).path, flush=True)
time.sleep(600)
"""


@contextmanager
def host(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    command = [sys.executable, "-c", HOST, str(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_the_folder_of_a_killed_host_is_removed_at_the_next_start(tmp_path: Path) -> None:
    with host(tmp_path) as (process, left):
        (left / "host.sock.token").write_text("secret")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert left.is_dir()
        mine = RunFolder(tmp_path)
    assert [*tmp_path.iterdir()] == [mine.path]
    mine.remove()
    mine.remove()
    assert [*tmp_path.iterdir()] == []


def test_the_folder_of_a_running_host_stays(tmp_path: Path) -> None:
    with host(tmp_path) as (_, living):
        mine = RunFolder(tmp_path)
        assert sweep(tmp_path, time.time() + 10 * YOUNG_S) == []
        assert living.is_dir()
        assert mine.path.is_dir()
        mine.remove()


def test_hosts_that_start_at_once_do_not_take_each_others(tmp_path: Path) -> None:
    def start(_: int) -> RunFolder:
        return RunFolder(tmp_path)

    with ThreadPoolExecutor(16) as threads:
        folders = [*threads.map(start, range(200))]
    assert all((folder.path / "lock").exists() for folder in folders)
    assert len({folder.path for folder in folders}) == 200
    for folder in folders:
        folder.remove()


def test_foreign_folders_stay(tmp_path: Path) -> None:
    """Folders with another name, type or mode, a link, and one that is just being created."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "precious").write_text("x")
    (tmp_path / "penstock-run-linked__").symlink_to(elsewhere)
    (tmp_path / "penstock-run-file____").write_text("x")
    (tmp_path / "penstock-run-open____").mkdir()
    (tmp_path / "penstock-run-open____").chmod(0o755)
    (tmp_path / "penstock-run-").mkdir(mode=0o700)
    (tmp_path / "penstock-run-making__").mkdir(mode=0o700)
    (tmp_path / "penstock-run-lock____").mkdir(mode=0o700)
    (tmp_path / "penstock-run-lock____" / "lock").symlink_to(elsewhere / "precious")
    before = sorted(tmp_path.rglob("*"))
    assert sweep(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_half_made_folder_is_removed_in_time(tmp_path: Path) -> None:
    left = tmp_path / "penstock-run-aaaaaaaa"
    left.mkdir(mode=0o700)
    assert sweep(tmp_path) == []
    assert sweep(tmp_path, time.time() + YOUNG_S + 1) == [left]


def test_folders_of_other_users_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "penstock-run-aaaaaaaa"
    left.mkdir(mode=0o700)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert sweep(tmp_path, time.time() + YOUNG_S + 1) == []


def test_a_folder_that_cannot_be_created_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: No such file or directory\. Set TMPDIR"):
        RunFolder(tmp_path / "nowhere")

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.order import APART, BESIDE, FIRST, SLOW, TESTS, TORCH, group_of, in_turns, rank

NO_TESTS_OF_THEIR_PROCESS = ("support/models.py", "property/specimens.py")
"""A replica's models, and the values of a test that is named."""


def test_every_entry_of_the_order_exists() -> None:
    assert [each for each in (*FIRST, *SLOW, *TORCH) if not (TESTS / each).exists()] == []
    assert [each for each in APART if not (TESTS / each).is_dir()] == []


def test_the_tests_of_a_file_run_in_one_process(tmp_path: Path) -> None:
    """With two processes, and two files whose tests would alternate."""
    folder = tmp_path / "tests"
    (folder / "unit").mkdir(parents=True)
    for name in ("conftest.py", "support"):
        (folder / name).symlink_to(TESTS / name)
    body = "import os, pathlib\n" + "".join(
        f"def test_{n}(): pathlib.Path({str(tmp_path / 'seen')!r}, f'{{__name__}} {{os.getpid()}}').touch()\n"
        for n in range(6)
    )
    (tmp_path / "seen").mkdir()
    for name in ("test_a.py", "test_b.py"):
        (folder / "unit" / name).write_text(body)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", "--rootdir", tmp_path, "tests"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{TESTS.parent}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    seen = [path.name.split()[0] for path in (tmp_path / "seen").iterdir()]
    assert len(seen) == len(set(seen)) == 2


def test_a_file_that_is_named_comes_before_its_folder() -> None:
    assert (
        rank("e2e/test_chaos.py") < rank("e2e/test_reads.py") < rank("contract/kcl/test_daemon.py") < rank("unit/x.py")
    )
    assert rank("elsewhere/test_x.py") == len(FIRST)


def test_tests_that_wait_and_tests_that_compute_take_turns() -> None:
    """After the first ones: it makes what the others that wait need."""
    waiting, computing = [f"w{n}" for n in range(4)], [f"c{n}" for n in range(BESIDE + 7)]
    first, then = computing[:BESIDE], computing[BESIDE:]
    expected = ["w0", *first, "w1", *then[:3], "w2", *then[3:6], "w3", *then[6:]]
    assert [*in_turns(waiting, computing)] == expected
    assert [*in_turns(waiting, [])] == waiting and [*in_turns([], computing)] == computing


def test_files_that_import_torch_share_a_process() -> None:
    importing = re.compile(r"(?m)^ *(import torch\b|from torch\b|torch = )")
    files = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("*.py")}
    found = {name for name, path in files.items() if importing.search(path.read_text())}
    assert found - {*NO_TESTS_OF_THEIR_PROCESS} <= {*TORCH}
    assert {group_of(name) for name in TORCH} == {"torch"}
    assert group_of("unit/x.py") == "unit/x.py" and group_of("property/test_kpl.py") is None

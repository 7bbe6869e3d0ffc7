from __future__ import annotations

import re

from tests.support.order import APART, FIRST, SLOW, TESTS, TORCH, group_of, rank

NO_TESTS_OF_THEIR_PROCESS = ("support/models.py", "property/specimens.py")
"""A replica's models, and the values of a test that is named."""


def test_every_entry_of_the_order_exists() -> None:
    assert [each for each in (*FIRST, *SLOW, *TORCH) if not (TESTS / each).exists()] == []
    assert [each for each in APART if not (TESTS / each).is_dir()] == []


def test_a_file_that_is_named_comes_before_its_folder() -> None:
    assert (
        rank("e2e/test_chaos.py") < rank("e2e/test_reads.py") < rank("contract/kcl/test_daemon.py") < rank("unit/x.py")
    )
    assert rank("elsewhere/test_x.py") == len(FIRST)


def test_files_that_import_torch_share_a_process() -> None:
    importing = re.compile(r"(?m)^ *(import torch\b|from torch\b|torch = )")
    files = {path.relative_to(TESTS).as_posix(): path for path in TESTS.rglob("*.py")}
    found = {name for name, path in files.items() if importing.search(path.read_text())}
    assert found - {*NO_TESTS_OF_THEIR_PROCESS} <= {*TORCH}
    assert {group_of(name) for name in TORCH} == {"torch"}
    assert group_of("unit/x.py") == "unit/x.py" and group_of("property/test_kpl.py") is None

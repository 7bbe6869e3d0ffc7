from __future__ import annotations

from tests.support.order import APART, FIRST, TESTS, rank


def test_every_entry_of_the_order_exists() -> None:
    assert [each for each in FIRST if not (TESTS / each).exists()] == []
    assert [each for each in APART if not (TESTS / each).is_dir()] == []


def test_a_file_that_is_named_comes_before_its_folder() -> None:
    assert (
        rank("e2e/test_chaos.py") < rank("e2e/test_tune.py") < rank("contract/kcl/test_daemon.py") < rank("unit/x.py")
    )
    assert rank("elsewhere/test_x.py") == len(FIRST)

"""For all tests."""

from __future__ import annotations

import gc
import signal
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from tests.support import order, processor

# A machine that tests share is slow now and then, which says nothing of the code; a failure prints how to replay it.
settings.register_profile("penstock", deadline=None, print_blob=True)
settings.load_profile("penstock")

# A shell's `&` starts a program that ignores Ctrl-C, and so do the programs that it starts; tests send it to some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    processor.register(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect garbage less often: modules and thousands of tests live to the end, and to look through them again and
    again takes a sixth of the time. What tests make is collected as ever, only later or when a test asks for it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    order.mark(item)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.arrange(items)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Collect garbage after the last test of a file: a resource that it leaked in a cycle of references fails it.

    What is left, modules above all, is not looked through again.
    """
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Keep the tests of a group in one process. (pytest-xdist's own ``loadgroup`` has no effect with pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return order.group_of(nodeid.partition("::")[0].removeprefix("tests/")) or nodeid

    return Groups(config, log)

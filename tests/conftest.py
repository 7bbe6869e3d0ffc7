"""For all tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.support import order

# A machine that tests share is slow now and then, which says nothing of the code; a failure prints how to replay it.
settings.register_profile("penstock", deadline=None, print_blob=True)
settings.load_profile("penstock")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.arrange(items)

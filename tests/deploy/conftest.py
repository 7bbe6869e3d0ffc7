"""The stack that most tests of the template look at."""

from __future__ import annotations

import pytest

from tests.support.cloudformation import Stack
from tests.support.template_stack import GIVEN


@pytest.fixture(scope="package")
def stack() -> Stack:
    return Stack(GIVEN)

"""For tests that run commands in their own process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from consumer.aws.clients import Aws


@pytest.fixture(scope="package", autouse=True)
def clients_made_once() -> Iterator[None]:
    """Commands with the same AWS in their environment share botocore's session and clients, which take 20 ms to
    make. A test that replaces ``Aws._client`` gets its own.
    """
    made: dict[object, Aws] = {}
    first = Aws.__init__

    def shared(aws: Aws) -> None:
        said = frozenset(each for each in os.environ.items() if each[0].startswith("AWS_") or each[0] == "HOME")
        place = (said, Aws._client)
        if place not in made:
            first(aws)
            made[place] = aws
        vars(aws).update(vars(made[place]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Aws, "__init__", shared)
        yield

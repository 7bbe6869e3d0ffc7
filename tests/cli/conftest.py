"""For tests that run commands in their own process, and configurations for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.aws.clients import Aws
from tests.support.command_line import GOOD
from tests.support.hosts import LEAN


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


@pytest.fixture(scope="package", autouse=True)
def replicas_without_pandas() -> Iterator[None]:
    """Replicas search where this process does. In the image, too, they have no pandas, which pyarrow would import for a
    third of a second.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(LEAN), *sys.path])
        yield


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD.replace("[stream]", "[batch]\nmax_recrods = 1\nlinger_ms = -1\n[stream]"))
    return path

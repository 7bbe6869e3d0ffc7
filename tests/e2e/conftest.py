"""One local AWS per test process; one stream, application and folder per test."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.local.process import LocalAWS
from tests.e2e.rig import Rig

LONGEST_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A JVM and a model start slowly on a busy machine; every wait in these tests has a deadline of its own."""
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


@pytest.fixture
def rig(aws: LocalAWS, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(aws, f"e2e-{zlib.crc32(request.node.name.encode())}", tmp_path)
    yield made
    made.clean()

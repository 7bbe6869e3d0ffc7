"""Hosts that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hosts import CARRIED, LivingHost, living


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    yield from living(tmp_path_factory)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    """It carries fields, refuses NaN, and tries three times."""
    yield from living(tmp_path_factory, passthrough=CARRIED, not_finite="reject", retries=2)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    """It waits a second for an answer and tries a record once."""
    yield from living(tmp_path_factory, timeout_s=1.0, retries=0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    """Two replicas."""
    yield from living(tmp_path_factory, replicas=2, retries=0)


@pytest.fixture(scope="module")
def measuring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    """Its model has its own cost, and a replica that measures."""
    yield from living(tmp_path_factory, "Measured", passthrough={"user": "string"})

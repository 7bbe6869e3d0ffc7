"""One local AWS for the tests of ``penstock replay``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consumer.admin import reset_leases
from consumer.admin.replay import carry_out
from consumer.local.process import LocalAWS
from tests.cli.replay.world import World
from tests.support.streams import active


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    with LocalAWS(limits=False) as aws, pytest.MonkeyPatch.context() as environment:
        for name, value in aws.env.items():
            environment.setenv(name, value)
        environment.setattr(carry_out, "MARGIN_S", -1.0)
        environment.setattr(reset_leases, "MARGIN_S", -1.0)
        yield World(aws)


@pytest.fixture(scope="package")
def untouched(world: World) -> str:
    """A stream for tests that put nothing on it."""
    world.kinesis.create_stream(StreamName="untouched", ShardCount=1)
    active(world.kinesis, "untouched")
    return "untouched"

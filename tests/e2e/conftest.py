"""One local AWS per test process; one stream, application and folder per test."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.local.process import LocalAWS
from tests.e2e.rig import LEAN, ROOT, Rig, lean
from tests.support import class_archive

LONGEST_S = 300
CLASSES = ROOT / "build" / "kcl.aot"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A JVM and a model start slowly on a busy machine; every wait in these tests has a deadline of its own."""
    for item in items:
        if "tests/e2e" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.fixture(scope="session")
def classes() -> bool:
    """Whether there is a class archive. It is made if many tests will use it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        class_archive.share(CLASSES)
    return class_archive.fits(CLASSES)


@pytest.fixture(autouse=True)
def _shared_classes(classes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if classes:
        monkeypatch.setenv(class_archive.VARIABLE, class_archive.options(CLASSES))


@pytest.fixture(autouse=True)
def _lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands start inside of pytest has no pandas either: programs, and replicas, which search where their host
    does.
    """
    monkeypatch.setenv("PYTHONPATH", lean(os.environ)["PYTHONPATH"])
    monkeypatch.setattr(sys, "path", [str(LEAN), *sys.path])


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


@pytest.fixture
def unlimited() -> Iterator[LocalAWS]:
    """One without the limits of Kinesis: what is put need not wait."""
    with LocalAWS(limits=False) as local:
        yield local


@pytest.fixture
def rig(aws: LocalAWS, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(aws, f"e2e-{zlib.crc32(request.node.name.encode())}", tmp_path)
    yield made
    made.clean()


@pytest.fixture
def measured() -> Callable[[str, float], None]:
    """Write how many seconds something took to the file that ``PENSTOCK_FIGURES`` names, for docs/reliability.md."""

    def note(what: str, seconds: float) -> None:
        if path := os.environ.get("PENSTOCK_FIGURES"):
            with Path(path).open("a") as file:
                file.write(json.dumps({"what": what, "seconds": round(seconds, 2)}) + "\n")

    return note

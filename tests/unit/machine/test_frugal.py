"""What a command does first, in a process of its own: it changes the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import atexit, gc, json, os
from pipeline.machine import frugal
frugal.begin()
frugal.begin()
rare = gc.get_threshold()
atexit._run_exitfuncs()
print(json.dumps([rare == frugal.THRESHOLDS > frugal.USUAL_THRESHOLDS, gc.get_freeze_count(), os.environ["%s"]]))
"""


@pytest.mark.parametrize(("given", "threads"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_garbage_is_looked_for_rarely_and_not_at_the_end_and_numpy_starts_no_threads(
    given: dict[str, str], threads: str
) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", SCRIPT % "OPENBLAS_NUM_THREADS"]
    rare, frozen, told = json.loads(subprocess.check_output(command, env={**kept, **given}))
    assert rare and frozen > 1000 and told == threads

"""A record that kills the host itself, in real processes, does not cause a crash loop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.crashing_task import DEADLY, RECORDS
from tests.support.hosts import ROOT

TASKS = 8


def test_a_record_that_kills_the_host_is_a_dead_letter_after_a_few_tasks(tmp_path: Path) -> None:
    for died in range(TASKS):
        task = subprocess.run(
            [sys.executable, "-m", "tests.support.crashing_task", str(tmp_path), str(died)],
            cwd=ROOT,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if task.returncode == 0:
            break
        assert task.returncode == -signal.SIGKILL, task.stderr.decode()
    told = json.loads(task.stdout)
    assert told["settled"] == RECORDS
    assert told["dead"] == {str(DEADLY): "3 tasks died while this record was alone in the model"}
    assert died == 6

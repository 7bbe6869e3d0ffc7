"""A record that kills the host itself, in real processes, does not cause a crash loop."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.support import crashing_task
from tests.support.crashing_task import DEADLY, RECORDS
from tests.support.forks import FORKS

TASKS = 8
DEADLINE_S = 60


def test_a_record_that_kills_the_host_is_a_dead_letter_after_a_few_tasks(tmp_path: Path) -> None:
    for died in range(TASKS):
        task = FORKS.Process(target=crashing_task.task, args=(tmp_path, died))
        task.start()
        task.join(DEADLINE_S)
        if task.exitcode == 0:
            break
        assert task.exitcode == -signal.SIGKILL
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["settled"] == RECORDS
    assert told["dead"] == {str(DEADLY): "3 tasks died while this record was alone in the model"}
    assert died == 6

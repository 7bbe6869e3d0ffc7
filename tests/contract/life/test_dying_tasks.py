"""A record stops a shard for at most five tasks, wherever it kills: in real processes, one layer at a time."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from tests.support import dying_task as dying
from tests.support.dying_task import COUNT, DEADLY, GIVE_UP_AFTER, LAYERS, SKIPPED, payload, stream
from tests.support.forks import FORKS

DEADLINE_S = 60


@pytest.mark.parametrize(
    ("layer", "aggregated"), [("jvm", False), ("sink", False), *((layer, True) for layer in LAYERS)]
)
def test_a_shard_goes_on_after_a_few_tasks(tmp_path: Path, layer: str, aggregated: bool) -> None:
    """A record that kills on KCL's way gets its row. A record that kills elsewhere becomes a dead letter; the records
    around it get their rows.

    A record whose dead letter kills as well costs one task more, and its payload. An aggregate that kills before it is
    taken apart becomes one dead letter.
    """
    died = 0
    while run(tmp_path, layer, aggregated) != 0:
        died += 1
        assert died <= GIVE_UP_AFTER + (layer == "letter")
    assert died >= 2
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    expected = positions(aggregated)
    if layer == "look":
        expected[DEADLY + 1 : DEADLY + 10] = []
    assert [line["at"] for line in lines] == expected
    letters = [line for line in lines if "kind" in line]
    if layer in SKIPPED:
        assert letters == []
    else:
        (letter,) = letters
        assert (letter["at"], letter["kind"]) == (positions(aggregated)[DEADLY], "killed")
        whole = stream(aggregated)[DEADLY // 10]["Data"]
        told = {"letter": b"", "look": whole}.get(layer, payload(DEADLY))
        assert b64decode(letter["payload"]) == told
    lease = json.loads((tmp_path / "lease.json").read_text())
    assert (lease["note"], lease["owner"]) == ("", "")


def positions(aggregated: bool) -> list[str]:
    return [f"{1000 + n - n % 10}/{n % 10}" if aggregated else f"{1000 + n}/0" for n in range(COUNT)]


def run(folder: Path, layer: str, aggregated: bool) -> int:
    task = FORKS.Process(target=dying.task, args=(folder, layer, aggregated))
    task.start()
    task.join(DEADLINE_S)
    assert task.exitcode is not None, "it hangs"
    return task.exitcode

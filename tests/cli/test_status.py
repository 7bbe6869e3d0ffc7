"""The output of ``penstock status``: at a fixed width, piped, and on a terminal that changes its size."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
from rich.console import Console
from rich.live import Live

from consumer.admin.application import Target
from consumer.admin.status.diagnose import diagnose
from consumer.admin.status.report import Status
from consumer.admin.status.snapshot import Snapshot
from consumer.cli.status import looks as status_looks
from consumer.cli.status import screen as status_screen
from consumer.cli.status.screen import Screen
from pipeline.errors import UserError
from tests.support.status_looks import NOW, A, B, C, lease, look, says


def example() -> Status:
    outages = [{"part": "parquet", "kind": "sink", "reason": "AccessDenied", "for_s": 65.0}]
    behind = {"behind_s": 125.0, "lag_s": 120, "slope": -0.5, "rate": 1234.5, "checkpoint_age_s": 4.0}
    idle = {
        "unsettled": 0,
        "held_bytes": 0,
        "lag_s": 0,
        "idle_s": 3600.0,
        "behind_s": 0.0,
        "checkpoint_age_s": 3600.0,
    }
    said = {"w1": says({A: behind}), "w2": says({B: idle}, outages=outages, batches=0)}
    shards = (lease(A), lease(B, "w2"), lease(C, "", sentinel="TRIM_HORIZON"), lease("old", "", sentinel="SHARD_END"))
    return diagnose("events", look(*shards, said=said, leader="w3", silent_s={}))


PIPED = """\
app on stream events, 08:00:00 UTC
workers: 2 of 3 alive, w3 leads; KCL's items: three tables
shards: 3 to read (3 open), 1 read to their ends, 1 stand still
all: unknown how far behind, trend unknown; incoming unknown records/s, settled 1,239.5 records/s

shard|owner|behind|records|trend|caught up in|records/s|checkpoint age|why
shardId-000000000002|none|unknown|unknown|unknown|unknown|0.0|unknown|no owner, leader w3 dead
shardId-000000000000|w1|2 min 5 s|unknown|shrinking|4 min 10 s|1,234.5|4 s|
shardId-000000000001|w2|0 ms|0|steady|now|5.0|1 h|the stream has no new records, since 07:00:00 UTC

worker|shards|batch|busy|efficiency|version|seen|remarks
w3|0|unknown|unknown|unknown|unknown|unknown|leader; dead
w1|1|8.0|50 %|40 %|0.1.0, m@1|now|
w2|1|unknown|50 %|40 %|0.1.0, m@1|now|parquet: AccessDenied
"""

NARROW = """\
app on stream events, 08:00:00 UTC
workers: 2 of 3 alive, w3 leads; KCL's items: three tables
shards: 3 to read (3 open), 1 read to their ends, 1 stand still
all: unknown how far behind, trend unknown; incoming unknown records/s, settled 1,239.5 records/s

 shard                  owner      behind   trend       why
 ──────────────────────────────────────────────────────────────────────────────────────────────────
 shardId-000000000002   none      unknown   unknown     no owner, leader w3 dead
 shardId-000000000000   w1      2 min 5 s   shrinking
 shardId-000000000001   w2           0 ms   steady      the stream has no new records, since
                                                        07:00:00 UTC


 worker   shards     batch      busy   efficiency   version      seen      remarks
 ───────────────────────────────────────────────────────────────────────────────────────────────
 w3            0   unknown   unknown      unknown   unknown      unknown   leader; dead
 w1            1       8.0      50 %         40 %   0.1.0, m@1   now
 w2            1   unknown      50 %         40 %   0.1.0, m@1   now       parquet: AccessDenied

"""


def drawn(status: Status, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(Screen(status), end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().split("\n")


def test_piped_each_row_is_a_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    status_screen.show(example())
    assert capsys.readouterr().out == PIPED.replace("|", "\t")


def test_on_a_screen() -> None:
    assert "\n".join(line.rstrip() for line in drawn(example(), 100, 30)) == NARROW


@pytest.mark.parametrize("size", [(160, 40), (80, 24), (60, 12), (40, 10), (300, 100), (20, 5)])
def test_it_is_never_larger_than_the_screen(size: tuple[int, int]) -> None:
    width, height = size
    many = [lease(f"shardId-{number:012d}", "w1") for number in range(500)]
    lines = drawn(diagnose("events", look(*many)), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    if height >= 24:
        assert any("more" in line for line in lines)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 20)])
def test_a_shard_that_has_no_room_is_counted(size: tuple[int, int]) -> None:
    width, height = size
    many = [lease(f"shardId-{number:012d}", "a-worker-with-a-long-name-000001") for number in range(30)]
    lines = drawn(diagnose("events", look(*many)), width, height)
    whole = [line for line in lines if line.lstrip().startswith("shardId-")]
    assert all(re.match(r" shardId-0000000000\d\d ", line) for line in whole), whole
    left_out = next(line for line in lines if line.lstrip().startswith("and "))
    assert len(whole) + int(left_out.split()[1]) == 30
    assert any(line.lstrip().startswith("worker") for line in lines)


@pytest.mark.parametrize("size", [(40, 12), (40, 10), (60, 12)])
def test_a_small_screen_shows_shards_with_their_whole_ids(size: tuple[int, int]) -> None:
    width, height = size
    many = [lease(f"shardId-{number:012d}", "a-worker-with-a-long-name-000001") for number in range(30)]
    lines = drawn(diagnose("events", look(*many)), width, height)
    assert sum(bool(re.match(r" shardId-0000000000\d\d ", line)) for line in lines) >= height // 6, lines


def test_a_live_screen_survives_a_resize() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=160, height=40, force_terminal=True, color_system=None)
    with Live(Screen(example()), console=console, screen=True, auto_refresh=False) as live:
        for width, height in ((60, 12), (200, 60), (30, 6)):
            console.size = (width, height)
            screen.truncate(0)
            live.refresh()
            text = screen.getvalue().rsplit("\x1b[H", 1)[-1]
            assert max(map(len, text.split("\n"))) <= width
            assert len(text.split("\n")) <= height


class Looking:
    """Returns the looks in order; raises those that are errors."""

    def __init__(self, *found: Snapshot | UserError) -> None:
        self._found: Iterator[Snapshot | UserError] = iter(found)

    def look(self) -> Snapshot:
        found = next(self._found)
        if isinstance(found, UserError):
            raise found
        return found

    @staticmethod
    def ask(what: str, call: object) -> object:
        assert callable(call)
        return call()


def test_a_failed_look_is_reported_and_the_next_one_follows() -> None:
    first, third = look(lease(), at_s=NOW - 4), look(lease())
    looking = Looking(first, UserError("access denied"), third)
    looks = status_looks.statuses(looking, looking, Target("events", "app"))  # type: ignore[arg-type]
    before, failed, after = next(looks), next(looks), next(looks)
    assert failed == replace(before, unread=("access denied",))
    assert "not read: access denied" in status_screen.summary(failed)
    assert (after.at_s, after.unread) == (NOW, ())


def test_a_first_look_that_fails_is_an_error() -> None:
    looking = Looking(UserError("access denied"))
    with pytest.raises(UserError):
        next(status_looks.statuses(looking, looking, Target("events", "app")))  # type: ignore[arg-type]


def test_watching_with_json_is_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    statuses = (replace(example(), at_s=NOW + number) for number, _ in zip(count(), range(3), strict=False))
    status_looks.show_each(statuses, 0, as_json=True)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["schema"] for each in said] == ["penstock.status/1"] * 3
    assert [each["at_s"] for each in said] == [NOW, NOW + 1, NOW + 2]
    why = said[0]["shards"][2]["why"]
    assert why == {"kind": "no_owner_leader_dead", "text": "no owner, leader w3 dead", "since_s": None}

"""Output that all commands share: objects with a schema, tables, progress, times and durations."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from consumer.admin.application import Target
from consumer.cli import Commands, main, output
from consumer.cli.columns import fitted
from consumer.cli.options import DURATION, TIME, Duration, application_options, stream_options
from pipeline.errors import NothingToDo, PenstockError, RefusedError

COLUMNS = ("shard", "records")
ROWS = [("shardId-000000000000", 1234), ("shardId-000000000001", None), ("\x1b[2Jevil\tcell", 0)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def commands(command: click.Command = main, path: str = "penstock") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{path} {name}")


LEAVES = {path: command for path, command in commands() if not isinstance(command, click.Group)}
SERVERS = {"penstock run", "penstock local up"}
"""Commands that print log lines and have no result."""


def test_a_piped_table_has_a_whole_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(COLUMNS, ROWS, right=["records"])

    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["shard", "records"],
        ["shardId-000000000000", "1,234"],
        ["shardId-000000000001", "unknown"],
        [r"\x1b[2Jevil\tcell", "0"],
    ]


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "dumb")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)

    output.table(COLUMNS, ROWS, right=["records"])

    assert [line.strip() for line in screen.getvalue().splitlines() if line.strip()] == [
        "shard                  records",
        "─" * 30,
        "shardId-000000000000     1,234",
        "shardId-000000000001   unknown",
        r"\x1b[2Jevil\tcell            0",
    ]


LONG = ("49590338271490256608559692538361571095921575989136588898/0", "a reason of several words")


@pytest.mark.parametrize("screen", [20, 60, 80, 100, 200])
def test_no_word_of_a_table_is_broken_on_a_screen_of_any_width(screen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(screen))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    output.table(("shard", "record", "reason"), [("shardId-000000000000", *LONG), ("shardId-000000000001", None, "x")])
    text = shown.getvalue()
    assert set(text.split()) >= {"shardId-000000000000", "shardId-000000000001", LONG[0], *LONG[1].split()}
    if screen < 100:
        assert text.splitlines()[:3] == ["shard:  shardId-000000000000", f"record: {LONG[0]}", f"reason: {LONG[1]}"]
    else:
        assert max(map(len, text.splitlines())) <= screen


@given(
    st.lists(st.lists(st.text("ab ", max_size=30), min_size=3, max_size=3), max_size=5),
    st.integers(1, 120),
)
def test_the_columns_fit_the_screen_and_hold_each_word(rows: list[list[str]], screen: int) -> None:
    widths = fitted(("one", "two", "three"), rows, screen)
    words = [[word for row in rows for word in row[place].split()] for place in range(3)]
    if widths is None:
        assert sum(max(map(len, [name, *each])) for name, each in zip(("one", "two", "three"), words, strict=True)) > (
            screen - 8
        )
        return
    assert sum(widths) + 8 <= screen
    assert all(len(word) <= width for width, each in zip(widths, words, strict=True) for word in each)


def test_an_object_begins_with_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit("leases.list", {"leases": []})

    said = capsys.readouterr().out
    assert list(json.loads(said)) == ["schema", "leases"]
    assert json.loads(said)["schema"] == "penstock.leases.list/1"
    assert said.count("\n") == 1


@pytest.mark.parametrize("path", sorted(LEAVES.keys() - SERVERS))
def test_every_command_has_json(path: str) -> None:
    assert any("--json" in each.opts for each in LEAVES[path].params), path


def test_piped_progress_is_a_line_each_ten_seconds_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with output.progress("reading", 1000, clock=lambda: now) as advance:
        for now in range(1, 31):  # noqa: B007  # the clock reads it
            advance(10)

    assert capsys.readouterr().err.splitlines() == [
        "reading: 100 of 1,000, 1 min 30 s left",
        "reading: 200 of 1,000, 1 min 20 s left",
        "reading: 300 of 1,000, 1 min 10 s left",
    ]


def test_what_an_earlier_run_did_says_nothing_of_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with output.progress("reading", 1000, clock=lambda: now) as advance:
        advance(800, before=True)
        for now in range(1, 11):  # noqa: B007  # the clock reads it
            advance(10)

    assert capsys.readouterr().err.splitlines() == ["reading: 900 of 1,000, 10 s left"]


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)

    with output.progress("reading", 1000) as advance:
        advance(250)

    assert "250 of 1,000" in screen.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (0.25, "250 ms"), (12, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (360000, "4 d 4 h")],
)
def test_durations_are_said_as_people_do(value: float | None, text: str) -> None:
    assert output.seconds(value) == text


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5", "2 weeks", "-1h", "h"])
def test_a_duration_of_another_form_names_the_form(text: str) -> None:
    with pytest.raises(click.BadParameter, match="30m"):
        DURATION.convert(text, None, None)


def test_a_duration_may_have_a_least() -> None:
    assert Duration(least_s=0.5).convert("0.5s", None, None) == 0.5
    with pytest.raises(click.BadParameter, match=r"too short\. Write 0\.5s or more"):
        Duration(least_s=0.5).convert("0s", None, None)


def test_times_are_read() -> None:
    assert TIME.convert("2026-01-31T09:00:00+01:00", None, None) == datetime(2026, 1, 31, 8, tzinfo=UTC)
    earliest = datetime.now(UTC) - timedelta(hours=2)
    moment = TIME.convert("2h ago", None, None)
    assert earliest <= moment <= datetime.now(UTC) - timedelta(hours=2)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01T00:00:00Z", "2026-01-31T09:00:00", "ago"])
def test_a_time_of_another_form_names_the_form(text: str) -> None:
    with pytest.raises(click.BadParameter):
        TIME.convert(text, None, None)


@click.group(cls=Commands)
@click.option("--debug", is_flag=True)
def group(debug: bool) -> None:
    """A group of commands for these tests."""


@group.command()
@application_options
def both(target: Target) -> None:
    click.echo(f"{target.application} {target.stream}")


@group.command()
@stream_options
def alone(target: Target) -> None:
    click.echo(f"{target.application} {target.stream}")


@group.command()
@click.argument("name")
def failing(name: str) -> None:
    errors: dict[str, PenstockError] = {"refused": RefusedError("not now"), "nothing": NothingToDo("all is there")}
    raise errors[name]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["both", "--application", "app", "--stream", "s"], 0, "app s"),
        (["both", "--stream", "s"], 2, "--application NAME"),
        (["both"], 2, "Give --config FILE, or --application NAME and --stream NAME"),
        (["alone", "--stream", "s"], 0, "None s"),
        (["alone"], 2, "Give --config FILE, or --stream NAME"),
        (["failing", "refused"], 3, "penstock: not now"),
        (["failing", "nothing"], 4, "penstock: all is there"),
    ],
)
def test_exit_codes_and_targets(words: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(group, words)

    assert result.exit_code == code
    assert said in result.output


def test_a_configuration_names_both(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(
        '[stream]\nname = "events"\napplication = "penstock-events"\n[model]\nfactory = "m:M"\nversion = "1"\n'
        '[[sink]]\ntype = "parquet"\nurl = "out"\n[dead_letter]\nurl = "dead"\n'
    )

    assert CliRunner().invoke(group, ["both", "--config", str(path)]).output == "penstock-events events\n"
    twice = CliRunner().invoke(group, ["both", "--config", str(path), "--stream", "events"])
    assert (twice.exit_code, "--config already names" in twice.output) == (2, True)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "x", "-1"])
def test_a_number_is_finite_and_in_its_range(number: str) -> None:
    result = CliRunner().invoke(main, ["diff", "a", "b", "--tolerance", number])
    assert (result.exit_code, "--tolerance" in result.stderr) == (2, True), result.output


@pytest.mark.parametrize("path", sorted(LEAVES))
def test_no_number_of_a_command_may_be_nan(path: str) -> None:
    ranges = [each for each in LEAVES[path].params if type(each.type) is click.FloatRange]
    assert not ranges, "click's FloatRange takes NaN: use Finite"


def test_no_key_of_an_answer_replaces_another() -> None:
    assert output.joined({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="said twice: b"):
        output.joined({"a": 1, "b": 1}, {"b": 2})


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "99999d ago",
        "999999999999999999d ago",
        f"{'9' * 400}d ago",
    ],
)
def test_a_time_that_kinesis_has_not_is_a_mistake(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not in the years 1970 to 9998"):
        TIME.convert(text, None, None)


@pytest.mark.parametrize("text", ["99999d", f"{'9' * 400}d"])
def test_a_duration_has_an_end(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is too long\. Write 3660d or less"):
        DURATION.convert(text, None, None)

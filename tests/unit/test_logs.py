"""Log lines: JSON that every collector can read, for any message."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from consumer import logs


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    sys.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_fields() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    logging.getLogger("penstock").info("leased %s", "shard-0", extra={"shard": "shard-0", "lag_ms": 12})
    (line,) = lines(stream)
    assert line.pop("ts").endswith("+00:00")
    assert line == {"level": "INFO", "logger": "penstock", "msg": "leased shard-0", "shard": "shard-0", "lag_ms": 12}


def test_an_exception_is_one_line_with_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("penstock").exception("it failed")
    (line,) = lines(stream)
    assert "Traceback" in line["exc"]
    assert line["exc"].endswith("ValueError: broken")


@pytest.mark.parametrize("value", ["\ud800", object(), {1: "x"}, b"\xff", 2**80, float("nan"), "a\nb"])
def test_no_value_can_lose_or_break_a_line(value: object) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    logging.getLogger("penstock").warning("value %s", value, extra={"value": value})
    (line,) = lines(stream)
    assert line["msg"].startswith("value ")
    assert "value" in line


def test_extra_fields_cannot_replace_ours() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    logging.getLogger("penstock").warning("true", extra={"level": "FALSE", "ts": 0, "msg_": 1})
    (line,) = lines(stream)
    assert (line["level"], line["msg"]) == ("WARNING", "true")


def test_on_a_terminal_lines_are_for_people() -> None:
    stream = Terminal()
    logs.configure("INFO", "auto", stream)
    logging.getLogger("penstock").warning("[lease] lost")
    assert "[lease] lost" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert not logs.are_json()


def test_text_can_be_had_without_a_terminal_and_json_on_one() -> None:
    plain, terminal = io.StringIO(), Terminal()
    logs.configure("INFO", "text", plain)
    logging.getLogger("penstock").warning("lease lost")
    logs.configure("INFO", "json", terminal)
    logging.getLogger("penstock").warning("lease lost")
    assert plain.getvalue().rstrip().endswith("WARNING penstock  lease lost")
    assert lines(terminal)[0]["msg"] == "lease lost"
    assert logs.are_json()


def test_libraries_are_quiet_and_we_are_not() -> None:
    stream = io.StringIO()
    logs.configure("DEBUG", "auto", stream)
    logging.getLogger("botocore.hooks").debug("event")
    logging.getLogger("hypercorn.error").info("running on")
    logging.getLogger("consumer.kcl.session").debug("admitted")
    assert [line["logger"] for line in lines(stream)] == ["consumer.kcl.session"]


def test_warnings_become_log_lines() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "auto", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "old" in lines(stream)[0]["msg"]


def test_the_last_configuration_counts() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("INFO", "auto", first)
    logs.configure("ERROR", "auto", second)
    logging.getLogger("penstock").warning("unheard")
    logging.getLogger("penstock").error("heard")
    assert first.getvalue() == ""
    assert [line["msg"] for line in lines(second)] == ["heard"]

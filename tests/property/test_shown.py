"""Text from producers, models and KCL is only text in a log, on the health page and in the last line."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import logs
from consumer.config.settings import HealthSettings
from consumer.http.health import Health
from pipeline.escape import harmless, shown, shown_lines
from pipeline.metrics import Metrics

NASTY = "\x00\x07\x1b\r\n\t\x7f\x85\x9b\u200b\u202e\u2028\u2066\ud800\udfff\ufeff\U000e0041é漢[31m12:00 ERROR"
ANY = st.text(st.characters(), max_size=60) | st.text(st.sampled_from(NASTY), max_size=60)
CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
HIDDEN = re.compile("[\xad\u061c\u180e\u200b-\u200f\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")


def acts(text: str) -> bool:
    """Whether the text has a control character, a line break, a surrogate, or a character that changes the
    direction."""
    return any(unicodedata.category(each) in CONTROLS or unicodedata.bidirectional(each) in BIDI for each in text)


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@given(ANY)
def test_nothing_acts_and_nothing_else_changes(text: str) -> None:
    assert not acts(shown(text))
    assert shown(text).isascii() or not text.isascii()
    if not acts(text) and not HIDDEN.search(text):
        assert shown(text) == text


@given(ANY)
def test_lines_stay_lines_and_none_begins_as_a_first_one(text: str) -> None:
    first, *others = shown_lines(text).split("\n")
    assert len(others) == text.count("\n")
    assert all(line.startswith("    ") for line in others)
    assert not any(map(acts, [first, *others]))


NESTED = st.recursive(
    ANY | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=20,
)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


@given(NESTED)
def test_nothing_in_a_value_acts_however_deep(value: object) -> None:
    assert not any(map(acts, texts(harmless(value))))


@pytest.mark.parametrize("form", ["text", "json"])
@given(text=ANY)
def test_a_log_record_is_one_line_of_text(form: logs.Format, text: str) -> None:
    stream = io.StringIO()
    logs.configure("INFO", form, stream)
    logging.getLogger("replica").warning("it says %s", text, extra={"key": text})
    written = stream.getvalue()
    assert written.endswith("\n")
    assert not acts(written[:-1])
    if form == "json":
        assert not any(map(acts, texts(json.loads(written))))  # so a program that prints the parsed text is safe, too


@given(text=ANY)
def test_a_traceback_cannot_pass_for_another_record(text: str) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "text", stream)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("host").exception("failed")
    _, *others = stream.getvalue().removesuffix("\n").split("\n")
    assert all(line.startswith("    ") and not acts(line) for line in others)


@given(text=ANY)
def test_a_traceback_in_json_has_lines_and_nothing_that_acts(text: str) -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream)
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("host").exception("failed")
    lines = json.loads(stream.getvalue())["exc"].split("\n")
    assert not any(map(acts, lines))
    assert lines[0].startswith("Traceback") and all(line.startswith("    ") for line in lines[1:])


@given(text=ANY)
def test_on_a_terminal_too(text: str) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    logs.configure("INFO", "auto", stream)
    logging.getLogger("replica").warning("it says %s", text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())  # rich's own colours
    assert not acts(plain.replace("\n", ""))


@given(text=ANY)
def test_the_health_page_has_a_line_for_each_reason(text: str) -> None:
    metrics = Metrics()
    metrics.outages.part("sink").failed(text)
    _, _, body = Health(HealthSettings(), metrics, lambda: text, lambda: None).answer("GET", "/healthz")
    lines = body.decode().split("\n")
    assert len(lines) == 3
    assert not any(map(acts, lines))

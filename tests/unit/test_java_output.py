"""KCL's output becomes our log, record for record."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET

import pytest

from consumer.kcl.jvm_log import MARK, KclLog, logback, tells_of_skipped_records


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]


def test_a_record_keeps_its_class_and_its_level(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    for level in ("ERROR", "WARN", "INFO", "DEBUG", "TRACE"):
        kcl.feed(f"{MARK}{level}|Scheduler|a | b %s\n")
    kcl.flush()
    assert told(caplog) == [
        ("kcl.Scheduler", level, "a | b %s") for level in ("ERROR", "WARNING", "INFO", "DEBUG", "DEBUG")
    ]


def test_a_stack_trace_belongs_to_its_record(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    for line in (f"{MARK}ERROR|ShardConsumer|it broke\n", "java.lang.Error: why\n", "\tat A.b(A.java:1)\n"):
        kcl.feed(line)
    assert told(caplog) == []
    kcl.feed(f"{MARK}INFO|Scheduler|next\n")
    assert told(caplog) == [("kcl.ShardConsumer", "ERROR", "it broke\njava.lang.Error: why\n\tat A.b(A.java:1)")]


def test_what_the_jvm_says_on_its_own_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    kcl.feed("\n")
    kcl.feed("Error: could not create the Java Virtual Machine.\n")
    kcl.flush()
    assert told(caplog) == [("kcl", "WARNING", "Error: could not create the Java Virtual Machine.")]


def test_a_flush_logs_once(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    kcl.feed(f"{MARK}INFO|Scheduler|once\n")
    assert kcl.pending
    kcl.flush()
    kcl.flush()
    assert not kcl.pending
    assert len(caplog.records) == 1


def test_an_endless_record_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    kcl.feed(f"{MARK}ERROR|A|start\n")
    for _ in range(500):
        kcl.feed("\tat\n")
    kcl.flush()
    lines = caplog.records[0].getMessage().splitlines()
    assert len(lines) == KclLog.MAX_LINES + 1
    assert lines[-1] == "... and 301 more lines"


def test_an_unknown_level_is_a_warning_and_a_broken_mark_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    kcl.feed(f"{MARK}FATAL|X|m")
    kcl.feed(MARK)
    kcl.flush()
    assert told(caplog) == [("kcl.X", "WARNING", "m"), ("kcl", "WARNING", "")]


@pytest.mark.parametrize(("level", "java"), [("WARNING", "WARN"), ("INFO", "INFO"), ("DEBUG", "DEBUG")])
def test_logback_is_told_the_level_in_javas_words(level: str, java: str) -> None:
    root = ET.fromstring(logback(level))
    levels = {logger.get("name"): logger.get("level") for logger in root.iter("logger")}
    assert [element.get("level") for element in root.iter("root")] == [java]
    assert levels["software.amazon.kinesis.multilang.MessageWriter"] == ("INFO" if level == "DEBUG" else "WARN")


def test_it_is_known_when_kcl_has_skipped_records() -> None:
    said = f"{MARK}WARN|ShardConsumerSubscriber|shardId-000000000000: Caught exception from handleInput"
    assert tells_of_skipped_records(said)
    assert not tells_of_skipped_records(f"{MARK}WARN|ShardConsumer|a record that quotes: {said}"[1:])
    assert not tells_of_skipped_records(said.replace("Caught exception from handleInput", "onError()."))


def test_what_tells_of_skipped_records_is_said_at_any_level() -> None:
    loggers = ET.fromstring(logback("ERROR")).iter("logger")
    levels = {logger.get("name"): logger.get("level") for logger in loggers}
    assert levels["software.amazon.kinesis.lifecycle.ShardConsumerSubscriber"] == "WARN"

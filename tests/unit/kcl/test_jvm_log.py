"""KCL's output becomes our log, record by record."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ET

import pytest

from consumer.kcl.jvm_log import MARK, KclLog, logback, tells_of_skipped_records
from consumer.kcl.repeated_messages import MOST_MESSAGES, RepeatedMessages


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


def test_other_output_of_the_jvm_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
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
def test_logback_gets_the_level_by_its_java_name(level: str, java: str) -> None:
    root = ET.fromstring(logback(level))
    levels = {logger.get("name"): logger.get("level") for logger in root.iter("logger")}
    assert [element.get("level") for element in root.iter("root")] == [java]
    assert levels["software.amazon.kinesis.multilang.MessageWriter"] == ("INFO" if level == "DEBUG" else "WARN")


def test_it_is_known_when_kcl_has_skipped_records() -> None:
    said = f"{MARK}WARN|ShardConsumerSubscriber|shardId-000000000000: Caught exception from handleInput"
    assert tells_of_skipped_records(said)
    assert not tells_of_skipped_records(f"{MARK}WARN|ShardConsumer|a record that quotes: {said}"[1:])
    assert not tells_of_skipped_records(said.replace("Caught exception from handleInput", "onError()."))


def test_reports_of_skipped_records_are_logged_at_any_level() -> None:
    loggers = ET.fromstring(logback("ERROR")).iter("logger")
    levels = {logger.get("name"): logger.get("level") for logger in loggers}
    assert levels["software.amazon.kinesis.lifecycle.ShardConsumerSubscriber"] == "WARN"


def failing(shard: int, request: str, exception: str = "java.net.ConnectException") -> list[str]:
    return [
        f"{MARK}ERROR|PrefetchRecordsPublisher|shardId-00000000000{shard} : Exception thrown fetching, {request}\n",
        f"{exception}: Connection refused: /10.0.0.{shard}:443\n",
        *(f"\tat A.b(A.java:{line})\n" for line in range(50)),
    ]


def test_a_flood_of_errors_is_one_stack_trace_and_a_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    kcl = KclLog(lambda: now)
    for turn in range(3_600):
        now = turn / 20
        for line in failing(turn % 8, f"id {turn:x}f0-{turn}"):
            kcl.feed(line)
    kcl.flush()
    texts = [text for _, level, text in told(caplog) if level == "ERROR"]
    assert [text.count("\n") for text in texts] == [51, *[0] * 9]
    assert [f"shardId-00000000000{shard}" in text for shard, text in enumerate(texts[:8])] == [True] * 8
    counts = [text.partition(" (")[2] for text in texts[8:]]
    assert counts == ["1192 more like it in the last 60 s)", "1199 more like it in the last 60 s)"]
    assert sum(map(len, texts)) < 3_000


def test_repetitions_that_were_left_out_are_counted_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    kcl = KclLog(lambda: now)
    for now in (0.0, 1.0, 2.0, 5.0):
        for line in failing(1, f"id {now}"):
            kcl.feed(line)
    kcl.close()
    first, last = (text for _, _, text in told(caplog))
    assert first.count("\n") == 51
    assert last.startswith("shardId-000000000001 : ") and last.endswith(" (3 more like it in 4 s)")
    kcl.close()
    assert len(told(caplog)) == 2


def test_other_errors_other_exceptions_and_errors_after_an_hour_are_logged_in_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    kcl = KclLog(lambda: now)
    for now, lines in [  # noqa: B007  # the clock's
        (0.0, failing(1, "a1")),
        (1.0, failing(1, "b1")),
        (2.0, failing(1, "a1", "java.io.IOException")),
        (3.0, [f"{MARK}ERROR|PrefetchRecordsPublisher|something else\n"]),
        (4.0, [f"{MARK}WARN|ShardConsumer|something else\n"]),
        (4_000.0, failing(1, "a1")),
    ]:
        for line in lines:
            kcl.feed(line)
        kcl.flush()
    assert len(told(caplog)) == 6 - 1


def test_messages_below_warnings_are_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    for _ in range(3):
        kcl.feed(f"{MARK}INFO|Scheduler|again\n")
    kcl.flush()
    assert len(told(caplog)) == 3


def test_messages_that_are_remembered_have_a_bound() -> None:
    repeated = RepeatedMessages()
    for number in range(1_000):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        assert repeated.wording("kcl", logging.ERROR, [word], 0.0) == word
    assert len(repeated._messages) == MOST_MESSAGES


def test_messages_of_every_first_start_are_not_warnings(caplog: pytest.LogCaptureFixture) -> None:
    kcl = KclLog()
    kcl.feed(f"{MARK}WARN|LeaseAssignmentManager|Not able to assign all expiredOrUnAssignedLeases\n")
    kcl.flush()
    assert [level for _, level, _ in told(caplog)] == ["INFO"]

"""Few lines for any number of dead letters, and no word of a payload."""

from __future__ import annotations

from pipeline.dead_letters.log import LABELS, DeadLetterLog
from pipeline.dead_letters.redaction import label, where
from pipeline.record import Dead, Record

RECORD = Record("shardId-000000000000", b"", "key", "7", 0, 0)
SECRET = "canary5ca1ab1e"


def dead(kind: str = "exception", place: str = "", reason: str = SECRET) -> Dead:
    return Dead(SECRET.encode(), reason, f"Traceback {SECRET}", 1, kind, where=place)


def test_the_first_of_a_sort_is_logged_at_once_and_others_as_counts() -> None:
    log = DeadLetterLog("s3://bucket/dead")
    line = log.note(RECORD, dead(place="KeyError at model.py:12 in predict"), "events")
    assert line is not None and "\n" not in line and SECRET not in line
    assert "exception (KeyError at model.py:12 in predict)" in line
    assert "events/shardId-000000000000/7/0" in line and "s3://bucket/dead" in line
    assert not log.waits
    assert all(log.note(RECORD, dead(place="KeyError at model.py:12 in predict"), "events") is None for _ in range(999))
    assert log.note(RECORD, dead("rejected"), "events") is not None
    assert log.waits
    assert log.counts() == "further dead letters: 999 exception (KeyError at model.py:12 in predict)"
    assert not log.waits


def test_the_number_of_labels_is_bounded() -> None:
    log = DeadLetterLog()
    lines = [log.note(RECORD, dead(place=f"E at m.py:{n} in f"), "events") for n in range(1000)]
    assert sum(line is not None for line in lines) == LABELS + 1
    assert "899 exception" in log.counts()


def test_only_penstocks_own_part_of_a_reason_is_logged() -> None:
    assert label(dead("died", reason="replica killed by signal 11")) == "died (replica killed by signal 11)"
    assert (
        label(dead("contract", reason=f"column 'n' is not int64: cannot convert {SECRET}")) == "contract (column 'n')"
    )
    mapping = f"predict returned a str for this record, not a mapping {SECRET}"
    assert label(dead("contract", reason=mapping)) == "contract (predict returned a str)"
    assert label(dead("rejected")) == "rejected"
    for reason in (f"replica lost its device: {SECRET}", f"replica killed by signal 11 {SECRET}", SECRET):
        assert label(dead("died", reason=reason)) == "died"
        assert label(dead("timeout", reason=reason)) == "timeout"


def test_the_place_is_the_models_own_and_says_nothing_of_the_value() -> None:
    def predict() -> None:
        int(SECRET)

    try:
        predict()
    except ValueError as error:
        said = where(error)
    assert said.startswith("ValueError at test_dead_letter_log.py:") and said.endswith(" in predict")
    kind = type(f"E\n{chr(27)}[31m", (Exception,), {})
    assert where(kind()) == "E ??31m"

"""Numbers with their nouns, such as "1 shard" and "2 shards", come from one function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.errors import brief_s, counted

ROOT = Path(__file__).parents[2]

FOLDERS = ("consumer", "pipeline")

NOUNS = "shards|records|leases|calls|requests|rows|files|letters|actions|columns|tasks|characters|problems|redrives"

BY_HAND = re.compile(rf"(?:\{{(?P<what>[^{{}}]+)\}}|%d) (?:(?:more|open|dead|user) )?(?:{NOUNS})\b(?!/s| a second)")
"""An f-string or a log message that puts a number before a plural."""

NEVER_ONE = re.compile(
    r"[A-Z_]+(:,)?$|'unknown|.*metadata|number\b|claimed|rows:,|self.done|found.records|len\(text\)|totals\['retired'\]"
)
"""Constants, text about the file itself, and numbers without a noun."""


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "shard", "0 shards"),
        (1, "shard", "1 shard"),
        (2, "dead letter", "2 dead letters"),
        (1, "batch", "1 batch"),
        (2000, "batch", "2,000 batches"),
    ],
)
def test_a_number_is_said_with_its_noun(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_no_message_counts_by_hand() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in BY_HAND.finditer(line)
        if not match["what"] or not NEVER_ONE.match(match["what"])
    ]
    assert found == [], "use pipeline.errors.counted"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (4.28e-05, "0.0000428 s"),
        (1.92e3, "1,920 s"),
        (0.65, "0.65 s"),
        (41.6, "41.6 s"),
        (0, "0 s"),
        (123456, "123,000 s"),
    ],
)
def test_seconds_have_no_exponent(seconds: float, said: str) -> None:
    assert brief_s(seconds) == said

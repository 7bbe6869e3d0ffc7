"""The documents and the code are written in plain words: some archaic and ambiguous ones are refused."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INSTEAD = {
    "anew": "again",
    "by now": "already, or leave it out",
    "hence": "so",
    "lest": "so that ... not",
    "mend": "fix",
    "mended": "fixed",
    "of late": "recently",
    "thereof": "of it",
    "thereby": "so",
    "whence": "from where",
    "whoever": "name the reader, the task or the caller",
    "whosoever": "name the reader, the task or the caller",
}
"""Words, and what to write instead."""

REFUSED = re.compile(rf"(?<![a-z])({'|'.join(INSTEAD)})(?![a-z])", re.IGNORECASE)


def found_in(text: str) -> list[tuple[int, str]]:
    """Line numbers and refused words. Underscores count as spaces, so names of tests are read, too."""
    lines = text.replace("_", " ").splitlines()
    return [(number, word.lower()) for number, line in enumerate(lines, 1) for word in REFUSED.findall(line)]


def test_no_refused_word_is_in_a_document_or_in_code() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "Makefile", "Dockerfile", "deploy"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not listed:
        pytest.skip("the files are not in a git repository")
    assert len(listed) > 500
    paths = [ROOT / name for name in listed if name != "tests/docs/test_words.py"]
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {word} (write: {INSTEAD[word]})"
        for path in paths
        if path.is_file()
        for number, word in found_in(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("text", ["def test_a_stream_made_anew()", "Whoever reads it", "what it had by now"])
def test_a_refused_word_is_found(text: str) -> None:
    assert len(found_in(text)) == 1


@pytest.mark.parametrize("text", ["renewed", "molest", "_whole", "amended", "again"])
def test_other_words_are_not_found(text: str) -> None:
    assert not found_in(text)

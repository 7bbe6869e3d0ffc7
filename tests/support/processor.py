"""Which tests need how much of the processor: they and every process that they start.

``make test`` is bound by the processor, so this, and not how long a test takes, is what a slow test costs the others.
``PENSTOCK_PROCESSOR=FILE pytest ...`` notes it, with any number of pytest's processes;
``python -m tests.support.processor FILE`` shows it by folder, by file, and the costliest tests.

A server that several tests share counts where it worked. What outlives the process that started it is not seen.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

VARIABLE = "PENSTOCK_PROCESSOR"
OUTSIDE = "outside of tests: imports, collection"
SHOWN = 40


def spent_s() -> float:
    """By this process and all that it started, as far as they are its children or theirs still."""
    me = psutil.Process()
    total = float(sum(me.cpu_times()[:4]))
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return total


class Notes:
    """A pytest plugin that appends a line for each test."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._inside_s = 0.0
        self._seen_s = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before_s = self._seen_s or spent_s()
        try:
            return (yield)
        finally:
            self._seen_s = spent_s()  # the next test begins here: a look takes some milliseconds
            self._inside_s += self._seen_s - before_s
            self._note(item.nodeid, self._seen_s - before_s)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._note(OUTSIDE, spent_s() - self._inside_s)

    def _note(self, what: str, seconds: float) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({"what": what, "processor_s": round(seconds, 3)}) + "\n")


def register(config: pytest.Config) -> None:
    """Note what tests need, where the environment asks for it; in the processes that run them."""
    spreads = config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")
    if (path := os.environ.get(VARIABLE)) and not spreads:
        config.pluginmanager.register(Notes(Path(path).absolute()))


def table(lines: list[str]) -> str:
    """Seconds of the processor by folder and file, and of the costliest tests."""
    folders: Counter[str] = Counter()
    files: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for line in lines:
        note = json.loads(line)
        file, _, test = note["what"].partition("::")
        folders["/".join(file.split("/")[:2])] += note["processor_s"]
        files[file] += note["processor_s"]
        if test:
            tests[note["what"]] += note["processor_s"]
    shown = [f"{sum(folders.values()):8.1f}  all"]
    for group in (folders.most_common(), files.most_common(SHOWN), tests.most_common(SHOWN)):
        shown += ["", *(f"{seconds:8.1f}  {name}" for name, seconds in group)]
    return "\n".join(shown)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()))

"""The commands of docs/operations.md's bad day, and the examples of every help text, beside a real worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
import pytest

from consumer.cli import main
from tests.e2e.rig import ROOT, Rig, wait_until

DOCUMENT = ROOT / "docs" / "operations.md"
DEPLOYED = "<!-- the test does this here -->"

MODEL = """
import pyarrow as pa

from pipeline.model import Model


class Sentiment(Model):
    output_schema = pa.schema([("label", pa.string()), ("chars", pa.int64())])

    def predict(self, items):
        return [{"label": item["lang"] + "/positive", "chars": len(item["text"])} for item in items]

    def example(self):
        return {"text": "thanks", "lang": "en"}
"""
REPAIRED = MODEL.replace('item["lang"]', 'item.get("lang", "en")')

CONFIG = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "sentiment:Sentiment"
version = "1"
threads = 1
[[sink]]
type = "parquet"
url = "s3://bucket/enriched"
flush_interval_s = 2
[dead_letter]
url = "s3://bucket/dead-letter"
[kcl]
failover_ms = 5000
[health]
port = 0
[log]
format = "json"
"""

MAY_END_WITH = {
    "penstock dead-letters redrive --config penstock.toml --kind timeout": {4},
    'penstock dlq redrive --config penstock.toml --reason "out of memory" --canary 20 --rate 50 --execute': {4},
    "penstock diff out/before out/after --tolerance 0 --columns label,score": {2},
    "penstock status --config penstock.toml --watch": {130},
}
"""Exit codes of examples other than 0: there is nothing to do, no such table here, or it goes on until Ctrl-C."""

NO_EXAMPLES = {"demo", "run", "tune", "local up"}
"""Servers and long measurements; each has a test of its own."""


def examples(command: click.Command = main, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each command below ``command``, and the shell lines of its help's examples."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from examples(below, f"{path} {name}".strip())
        return
    text = (command.help or "").partition("Examples:")[2].replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if "penstock" in line]
    yield path, lines


def walk() -> list[str]:
    """The bad day's blocks of commands, and the deployment between them."""
    section = DOCUMENT.read_text().partition("## A bad day\n")[2].partition("\n## ")[0]
    return [
        found
        for found in re.findall(rf"```shell\n(.*?)```|({re.escape(DEPLOYED)})", section, re.DOTALL)
        for found in found
        if found
    ]


class Day:
    """A folder with a configuration and a model, a stream with records, and a worker that reads them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.folder = rig.folder
        self.env = {
            **os.environ,
            **rig.aws.env,
            "PYTHONPATH": f"{ROOT}",
            "XDG_STATE_HOME": str(rig.folder / "state"),
            "PYTHON": sys.executable,
        }
        rig.name = "events"
        rig.aws.client("s3").create_bucket(Bucket="bucket")
        rig.create(shards=2)
        self.release(MODEL, "1")
        texts = [{"user": f"u{number % 7}", "text": f"text {number}"} for number in range(120)]
        records = [text | ({"lang": "de"} if number % 4 else {}) for number, text in enumerate(texts)]
        (self.folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.folder / "records.jsonl").write_text(json.dumps(records[1]) + "\n")

    def release(self, model: str, version: str) -> None:
        (self.folder / "sentiment.py").write_text(model)
        (self.folder / "penstock.toml").write_text(CONFIG.replace('version = "1"', f'version = "{version}"'))

    def start(self) -> None:
        self.rig.start(self.folder / "penstock.toml")

    def deploy(self) -> None:
        """A new task takes over from the old one."""
        self.release(REPAIRED, "2")
        assert self.rig.workers[-1].leave() == 0
        self.start()

    def shell(self, line: str, **more: str) -> subprocess.CompletedProcess[str]:
        function = 'penstock() { "$PYTHON" -m consumer.cli "$@"; }; set -o pipefail; '
        return subprocess.run(
            ["bash", "-c", function + line],
            cwd=self.folder,
            env={**self.env, **more},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def answer(self, line: str) -> Mapping[str, Any]:
        ran = self.shell(line)
        assert ran.returncode == 0, ran.stderr
        found: Mapping[str, Any] = json.loads(ran.stdout)
        return found

    def watched(self, line: str) -> int:
        """Ctrl-C after some seconds of a command that does not end."""
        words = [sys.executable, "-m", "consumer.cli", *line.split()[1:]]
        watching = subprocess.Popen(words, cwd=self.folder, env=self.env, stdout=subprocess.DEVNULL)
        time.sleep(3)  # someone looks at the screen
        watching.send_signal(signal.SIGINT)
        return watching.wait(30)


@pytest.fixture
def day(rig: Rig) -> Day:
    return Day(rig)


def test_every_command_has_examples_that_a_test_executes() -> None:
    without = {path for path, lines in examples() if not lines}
    assert without == NO_EXAMPLES


def test_a_bad_day_and_every_example(day: Day) -> None:
    day.start()
    assert day.shell("penstock put events.jsonl --stream events --key user").returncode == 0
    wait_until(lambda: int(day.rig.total("enriched")) >= 80, 90, "the records are read")
    letters = wait_until(
        lambda: day.answer("penstock dead-letters list --config penstock.toml --json")["letters"], 30, "dead letters"
    )
    in_walk = [line for block in walk() for line in block.splitlines()]

    failed = []
    for path, lines in examples():
        for example in [line for line in lines if line not in in_walk]:
            line = line_for_here(example, letters[0]["record_id"])
            if "--watch" in line:
                code, said = day.watched(line), ""
            else:
                ran = day.shell(line)
                code, said = ran.returncode, ran.stdout[-500:] + ran.stderr[-1500:]
            if code not in MAY_END_WITH.get(line, {0}):
                failed.append(f"{path}: {line}: exit code {code}: {said}")
    assert not failed, "\n".join(failed)

    for block in walk():
        if block == DEPLOYED:
            day.deploy()
            continue
        for line in block.splitlines():
            if line.startswith("penstock try"):
                day.release(REPAIRED, "2")
            ran = day.shell(line, RECORD_ID=letters[0]["record_id"])
            assert ran.returncode == 0, f"{line}: {ran.returncode}\n{ran.stdout[-1500:]}\n{ran.stderr[-2500:]}"


def line_for_here(line: str, record_id: str) -> str:
    """An example with the identity of a record that is there."""
    _, shard_id, sequence, _ = record_id.split("/")
    line = re.sub(r"events/shardId-\d+/\d+/\d+", record_id, line)
    if "shards skip" in line:
        line = re.sub(r"shardId-\d+", shard_id, re.sub(r"--past \d+", f"--past {sequence}", line))
    return line

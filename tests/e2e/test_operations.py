"""The commands of the bad day in docs/operations.md, of the runbook, and the examples of every help text, with a real
worker. What the workers and the commands ask of AWS, their policies permit.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator
from typing import Any

import click
import pytest
from botocore import xform_name
from click.testing import CliRunner

from consumer.cli import main
from tests.e2e import permitted
from tests.e2e.rig import PENSTOCK, ROOT, UP_S, Rig, wait_until
from tests.support import iam_policy, operators

DOCUMENT = ROOT / "docs" / "operations.md"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
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
idle_between_reads_ms = 2000
[health]
port = 0
[log]
format = "json"
"""

IN_TASKS = """
[kcl.properties]
metricsLevel = "SUMMARY"
metricsBufferTimeMillis = 5000
[[sink]]
type = "kinesis"
stream = "events-downstream"
"""
"""What only the configuration of the tasks has, so that they use every right of docs/security.md."""

FIRST, SECOND = "the-first-task", "the-second-task"
"""The access keys of the tasks."""

MAY_END_WITH = {
    "penstock dead-letters redrive --config penstock.toml --kind timeout": {4},
    'penstock dlq redrive --config penstock.toml --reason "out of memory" --canary 20 --rate 50 --execute': {4},
    "penstock diff out/before out/after --tolerance 0 --columns label,score": {2},
    "penstock status --config penstock.toml --watch": {130},
    "penstock replay --config penstock.toml --rewind --by 2h --url out/again": {3},
    "penstock shards skip": {0, 4},
    "penstock leases reset --config penstock.toml --execute": {1, 3},
    "penstock leases restore": {2},
    "penstock shards undo": {2},
    "penstock promote check": {0, 1},
}
"""Exit codes other than 0 that examples have here: nothing to do, a missing file or setting, running workers, a live
screen, a throughput that a busy machine changes.
"""

NOT_RUN = "# checked against AWS's API, not run"
"""The mark of a block of the runbook."""

HERE = {"shards scale 8": "shards scale 4", "--tasks 4": "--tasks 1"}
"""Sizes of the runbook that are smaller here."""

NO_EXAMPLES = {"demo", "run", "tune", "local up"}
"""Servers and long measurements; each has its own test."""


def examples(command: click.Command = main, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every command below ``command``, with the shell lines of its help's examples."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from examples(below, f"{path} {name}".strip())
        return
    text = (command.help or "").partition("Examples:")[2].replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in text.splitlines() if "penstock" in line]
    yield path, lines


def walk() -> list[str]:
    """The blocks of commands of the bad day, and the deployment between them."""
    section = DOCUMENT.read_text().partition("## A bad day\n")[2].partition("\n## ")[0]
    return [
        found
        for found in re.findall(rf"```shell\n(.*?)```|({re.escape(DEPLOYED)})", section, re.DOTALL)
        for found in found
        if found
    ]


def runbook() -> list[str]:
    """The runbook's commands, except those that it marks as not run."""
    blocks = re.findall(r"```(?:sh|shell)\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    lines = [line.strip() for block in blocks if NOT_RUN not in block for line in block.splitlines() if line.strip()]
    for there, here in HERE.items():
        lines = [line.replace(there, here) for line in lines]
    return list(dict.fromkeys(lines))


class Day:
    """A folder with a configuration and a model, a stream with records, and a worker that reads them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.folder = rig.folder
        self.record_id = ""
        rig.name = "events"
        rig.aws.client("s3").create_bucket(Bucket="bucket")
        rig.kinesis.create_stream(StreamName="events-downstream", ShardCount=1)
        rig.create(shards=2)
        permitted.make_tables_of_the_template(rig, "events", "penstock-events")
        self.release(MODEL, "1")
        texts = [{"user": f"u{number % 7}", "text": f"text {number}"} for number in range(120)]
        records = [text | ({"lang": "de"} if number % 4 else {}) for number, text in enumerate(texts)]
        (self.folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (self.folder / "records.jsonl").write_text(json.dumps(records[1]) + "\n")
        (self.folder / "archive.jsonl").write_text(json.dumps({"partition_key": "u1", "data": records[1]}) + "\n")

    def release(self, model: str, version: str) -> None:
        (self.folder / "sentiment.py").write_text(model)
        config = CONFIG.replace('version = "1"', f'version = "{version}"')
        (self.folder / "penstock.toml").write_text(config)
        (self.folder / "task.toml").write_text(config.replace("[model]", 'start = "LATEST"\n[model]') + IN_TASKS)

    def start(self, key: str) -> None:
        worker = self.rig.start(self.folder / "task.toml", AWS_ACCESS_KEY_ID=key)
        wait_until(lambda: worker.stats()["shards"], UP_S, "shards are leased")

    def deploy(self) -> None:
        """A new task that takes over from the old one."""
        self.release(REPAIRED, "2")
        assert self.rig.workers[-1].leave() == 0
        self.start(SECOND)

    def run(self, line: str) -> tuple[int, str, str]:
        """Run a line of shell. Return exit code, stdout and stderr. Tasks run as separate processes."""
        words = shlex.split(line.replace("$RECORD_ID", self.record_id))
        os.environ["AWS_ACCESS_KEY_ID"] = operators.policy_of(words)
        given, words = (f"{words[1]}\n", words[words.index("|") + 1 :]) if "|" in words else ("", words)
        words, into = (words[: words.index(">")], words[-1]) if ">" in words else (words, None)
        if words[0] == "aws":
            return self._aws(words[1], words[2], words[3:])
        if "--watch" in words:
            return self._watched(words[1:]), "", ""
        if "replay" in words and "--execute" in words:
            ran = subprocess.run([*PENSTOCK, *words[1:]], capture_output=True, text=True, timeout=150, check=False)
            return ran.returncode, ran.stdout, ran.stderr
        result = CliRunner().invoke(main, words[1:], input=given, prog_name="penstock")
        if into:
            (self.folder / into).write_bytes(result.stdout_bytes)
        failed = result.exception if not isinstance(result.exception, SystemExit) else None
        crash = "".join(traceback.format_exception(failed)) if failed else ""
        return result.exit_code, result.stdout, result.stderr + crash

    def _aws(self, service: str, verb: str, options: list[str]) -> tuple[int, str, str]:
        """What the AWS CLI would call; each option has a value of one word."""
        client = self.rig.aws.client(service)
        method = verb.replace("-", "_")
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape
        names = {f"--{xform_name(name, '-')}": name for name in shape.members}
        given = {names[option]: value for option, value in zip(options[::2], options[1::2], strict=True)}
        numbers = {name: int(value) for name, value in given.items() if shape.members[name].type_name == "integer"}
        return 0, str(getattr(client, method)(**given | numbers)), ""

    def letters(self) -> list[dict[str, Any]]:
        code, said, why = self.run("penstock dead-letters list --config penstock.toml --json")
        assert code == 0, why
        found: list[dict[str, Any]] = json.loads(said)["letters"]
        return found

    def _watched(self, words: list[str]) -> int:
        """Send Ctrl-C after some seconds to a command that does not end."""
        watching = subprocess.Popen([*PENSTOCK, *words], stdout=subprocess.DEVNULL)
        time.sleep(3)  # someone looks at the screen
        watching.send_signal(signal.SIGINT)
        return watching.wait(30)


@pytest.fixture
def day(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Day:
    monkeypatch.chdir(rig.folder)
    for name, value in rig.aws.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.folder / "state"))
    return Day(rig)


def test_every_command_has_examples_that_a_test_executes() -> None:
    without = {path for path, lines in examples() if not lines}
    assert without == NO_EXAMPLES


def test_a_bad_day_and_every_example(day: Day) -> None:
    day.start(FIRST)
    assert day.run("penstock put events.jsonl --stream events --key user")[0] == 0
    wait_until(lambda: int(day.rig.total("enriched")) >= 80, 90, "the records are read")
    day.record_id = wait_until(day.letters, 30, "dead letters")[0]["record_id"]
    in_walk = [line for block in walk() for line in block.splitlines()]

    day.release(REPAIRED, "2")
    failed = []
    lines = [line for _, lines in examples() for line in lines] + runbook()
    for line in (line_for_here(line, day.record_id) for line in dict.fromkeys(lines) if line not in in_walk):
        code, stdout, stderr = day.run(line)
        if code not in next((codes for begins, codes in MAY_END_WITH.items() if line.startswith(begins)), {0}):
            failed.append(f"{line}: exit code {code}: {stdout[-3000:]}{stderr[-1500:]}")
    assert not failed, "\n".join(failed)

    for block in walk():
        if block == DEPLOYED:
            day.deploy()
            continue
        for line in block.splitlines():
            code, stdout, stderr = day.run(line)
            assert code == 0, f"{line}: {code}\n{stdout[-1500:]}\n{stderr[-2500:]}"
    change_what_stands(day)
    expect_rights(day)
    names = permitted.names_of("events", "penstock-events", DOWNSTREAM="events-downstream", TABLE="enriched")
    names |= {"BUCKET": "bucket", "DEAD_LETTER": "dead-letter"}
    permitted.expect_rights_with_tables_of_the_template(day.rig, names, FIRST, SECOND)


def change_what_stands(day: Day) -> None:
    """What the examples only plan, or what a running worker refuses."""
    day.rig.kinesis.enable_enhanced_monitoring(StreamName="events", ShardLevelMetrics=["ALL"])
    open_ids = [
        shard["ShardId"] for shard in day.rig.shards() if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
    ]
    assert day.rig.workers[-1].leave() == 0
    config = "--config penstock.toml"
    for line in (
        f"penstock shards split {open_ids[0]} {config} --execute",
        "penstock shards list --stream events",
        f"penstock shards merge {' '.join(open_ids[-2:])} {config} --execute",
        f"penstock leases reset {config} --execute --undo undo.json",
        f"penstock leases restore undo.json {config} --execute",
    ):
        code, stdout, stderr = day.run(line)
        assert code == 0, f"{line}: {code}\n{stdout[-1500:]}\n{stderr[-2500:]}"


def expect_rights(day: Day) -> None:
    """Each command asked for what its policies permit, and each action of each policy was asked for."""
    names = {"application": "penstock-events", "stream": "events", "bucket": "bucket"}
    policies = operators.policies(**names, table="enriched", dead_letter="dead-letter")
    unused = {name: iam_policy.rights_of(policy.statements) for name, policy in policies.items()}
    for name in policies:
        asked = day.rig.aws.asked(name)
        for each in {name, operators.READ}:
            unused[each] -= iam_policy.used(asked, policies[each].statements)[1]
        both = policies[name].statements + policies[operators.READ].statements
        assert iam_policy.used(asked, both)[0] == set(), name
    assert {name: rights for name, rights in unused.items() if rights} == {}


def line_for_here(line: str, record_id: str) -> str:
    """An example with the identity of an existing record."""
    _, shard_id, sequence, _ = record_id.split("/")
    line = re.sub(r"events/shardId-\d+/\d+/\d+", record_id, line)
    if "shards skip" in line:
        line = re.sub(r"shardId-\d+", shard_id, re.sub(r"--past \d+", f"--past {sequence}", line))
    return line

"""``make image-test``: runs the demo's work in the image, as a task of the stack, against a local AWS outside.

Two tasks, one after the other. The first is told to leave in the middle of the work, the second finishes it. Then the
table must have every record once. Exit code 1 if anything is amiss. Needs root, ``buildah`` and ``runc``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.report import fit
from consumer.local.process import LocalAWS
from deploy.image import build
from examples.demo.corpus import records
from tests.chaos.report import circumstances
from tests.docs.image_figures import size
from tests.e2e.rig import wait_until
from tests.image import layers, startup
from tests.image.container import Container, root_of, specification
from tests.support.cloudformation import Stack
from tests.support.template_stack import GIVEN

IMAGE, PLAIN = "penstock-minilm", "penstock"
DOCKERFILES = ("Dockerfile", "examples/minilm/Dockerfile")
STREAM, BUCKET, SHARDS = GIVEN["StreamName"], "the-bucket", 2
DEADLINE_S, REAP_S = 300.0, 30.0
ORPHAN = "import os, time\nif os.fork() == 0:\n os.setsid(); time.sleep(1)\n"
"""A process that ends before its child does."""

ZOMBIES = (
    "import pathlib; print(sum(stat.read_text().rpartition(')')[2].split()[0] == 'Z' "
    "for stat in pathlib.Path('/proc').glob('[0-9]*/stat')))"
)
BUILD_TOOLS = ("gcc", "cc", "c++", "make", "ld", "/venv/bin/pip", "javac")
WRITES = "import pathlib, sys; pathlib.Path(sys.argv[1], 'written').write_text('x')"


@click.command()
@click.option("--records", "count", default=2000, show_default=True, help="How many docstrings are put on the stream.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("build/image.json"))
def main(count: int, out: Path) -> None:
    """Run the image of ``examples/minilm`` as the stack would, and measure it."""
    for program in ("buildah", "runc"):
        if shutil.which(program) is None:
            raise click.ClickException(
                f"{program} is not installed. Run as root: apt-get install {program}; make image"
            )
    console = Console(highlight=False)
    fit(console)
    result = {**circumstances(), **_layers(console), **_run(console, count)}
    result["ok"] = not result["problems"]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    _show(console, result)
    if not result["ok"]:
        sys.exit(1)


# ---------------------------------------------------------------- layers


def _layers(console: Console) -> dict[str, Any]:
    """What the layers weigh, and what moves after a change of the model's code."""
    console.print("reading the layers")
    folder = build.PLACE / "oci"
    shutil.rmtree(folder, ignore_errors=True)
    texts = [(build.ROOT / path).read_text() for path in DOCKERFILES]
    found = layers.read(IMAGE, layers.export(IMAGE, folder), texts)
    plain = layers.kept(found, layers.ids(PLAIN))
    console.print("changing a line of the model's code")
    same = layers.kept(found, layers.ids(_changed(build.PLACE / "context")))
    return {
        "layers": [dataclasses.asdict(layer) for layer in found],
        "plain_moved_mb": sum(layer.moved_mb for layer in plain),
        "plain_disk_mb": sum(layer.disk_mb for layer in plain),
        "change_moves_mb": sum(layer.moved_mb for layer in found if layer not in same),
    }


def _changed(context: Path) -> str:
    """The model's image with another line in the model's code."""
    for name in ("examples", "deploy", "requirements-demo.lock", ".dockerignore"):
        source, target = build.ROOT / name, context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    code = context / "examples" / "minilm" / "__init__.py"
    code.write_text(code.read_text() + "\nCHANGED = True\n")
    image = build.Image("penstock-minilm-changed", DOCKERFILES[1], {"PENSTOCK": "penstock:cpu"})
    conf = build.PLACE / "pip.conf"
    listed = build.output([sys.executable, "-m", "pip", "config", "list"])
    command = build.buildah(image, conf, build.mounts(build.pip_settings(listed)), "--quiet")
    subprocess.run(command, cwd=context, check=True, stdout=subprocess.DEVNULL)
    return image.name


# ---------------------------------------------------------------- two tasks


def _run(console: Console, count: int) -> dict[str, Any]:
    """Run both tasks, and audit what they made."""
    with LocalAWS() as aws, root_of(IMAGE) as root:
        _prepare(aws, count)
        image = layers.config(build.PLACE / "oci")
        task = _task()
        console.print("a task that leaves in the middle of the work")
        first = _life("first", image, task, root, aws, lambda done: done["enriched"] >= count / 3)
        console.print("a task that finishes the work")
        finished = lambda done: first["settled"] + done["checkpointed"] >= count  # noqa: E731
        second = _life("second", image, task, root, aws, finished)
        audit = _audit(aws)
    problems = [f"{name}: {each}" for name, life in (("first", first), ("second", second)) for each in life["problems"]]
    if audit["exit_code"]:
        problems.append(f"penstock audit: exit code {audit['exit_code']}: {audit['said']}")
    return {"records": count, "first": first, "second": second, "audit": audit, "problems": problems}


def _task() -> dict[str, Any]:
    """The container of the stack's task definition."""
    definitions = Stack(GIVEN).resources["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return dict(next(each for each in definitions if each["Name"] == "penstock"))


def _prepare(aws: LocalAWS, count: int) -> None:
    kinesis, s3 = aws.client("kinesis"), aws.client("s3")
    kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
    kinesis.get_waiter("stream_exists").wait(StreamName=STREAM, WaiterConfig={"Delay": 1})
    s3.create_bucket(Bucket=BUCKET)
    waiting = [{"Data": data, "PartitionKey": key} for data, key in records(count)]
    end = time.monotonic() + DEADLINE_S
    while waiting:
        assert time.monotonic() < end, "the stream does not take the records"
        answers = kinesis.put_records(StreamName=STREAM, Records=waiting[:250])["Records"]
        refused = [record for record, answer in zip(waiting, answers, strict=False) if "ErrorCode" in answer]
        waiting = refused + waiting[250:]


def _environment(task: Mapping[str, Any], aws: LocalAWS, port: int) -> dict[str, str]:
    """What the task definition sets, with the bucket that was made here, and the way to the local AWS."""
    given = {
        each["Name"]: str(each["Value"]).replace("s3://Bucket/", f"s3://{BUCKET}/") for each in task["Environment"]
    }
    here = {
        "PENSTOCK_HEALTH__PORT": str(port),
        "PENSTOCK_SINK__0__FLUSH_INTERVAL_S": "5",
        "PENSTOCK_BATCH__MAX_RECORDS": "16",
    }
    return given | here | aws.env


def _life(
    name: str, image: Mapping[str, Any], task: Mapping[str, Any], root: Path, aws: LocalAWS,
    enough: Callable[[Mapping[str, float]], bool],
) -> dict[str, Any]:  # fmt: skip
    """One task from its start to its end. It is told to leave when ``enough`` is true of its totals."""
    port = _free_port()
    environment = _environment(task, aws, port)
    told = specification(image, root, environment, int(task["Memory"]))
    told["process"]["user"] = {"uid": int(task["User"]), "gid": int(task["User"])}
    told["root"]["readonly"] = task["ReadonlyRootFilesystem"]
    with Container(f"penstock-{name}-{os.getpid()}", build.PLACE / "bundles" / name, told) as container:
        began, first_row, totals = _watched(container, port, enough)
        check = [word.replace(":8080/", f":{port}/") for word in task["HealthCheck"]["Command"][1:]]
        problems = [] if name == "first" else _inside(container, check)
        totals = _totals(port) or totals
        code, leave_s = container.leave(task["StopTimeout"])
        entries = container.entries()
    if code:
        problems.append(f"exit code {code}: {container.log.read_text()[-2000:]}")
    if not any("drained every shard" in entry["msg"] for entry in entries):
        problems.append("its log does not say that it drained every shard")
    settled = next((entry["totals"]["settled"] for entry in reversed(entries) if "totals" in entry), 0)
    return {
        "start": startup.parts(container.asked, began, entries, first_row),
        "enriched_when_told": totals["enriched"],
        "settled": settled,
        "leave_s": leave_s,
        "exit_code": code,
        "problems": problems,
    }


def _watched(
    container: Container, port: int, enough: Callable[[Mapping[str, float]], bool]
) -> tuple[float, float, dict[str, float]]:
    """Wait until there is enough. Return when its process was made, when the first rows came, and its totals."""
    began, first_row, totals = 0.0, 0.0, {"enriched": 0.0}

    def look() -> bool:
        nonlocal began, first_row, totals
        if container.process.poll() is not None:
            raise click.ClickException(f"the container ended: {container.log.read_text()[-3000:]}")
        totals = _totals(port) or totals
        began = began or (container.began() if len(totals) > 1 else 0.0)
        first_row = first_row or (time.time() if totals["enriched"] else 0.0)
        return bool(first_row) and enough(totals)

    wait_until(look, DEADLINE_S, f"{container.name}: enough work. Its log: {container.log}")
    return began, first_row, totals


def _totals(port: int) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=2) as answer:
            found: dict[str, float] = json.load(answer)
            return found
    except OSError:
        return {}


def _inside(container: Container, health_check: list[str]) -> list[str]:
    """What is amiss within a running container."""
    problems = []
    if (who := container.runs("id", "-u").stdout.strip()) == "0":
        problems.append(f"it runs as {who}")
    if "penstock" not in (first := container.runs("cat", "/proc/1/cmdline").stdout):
        problems.append(f"process 1 is {first}")
    for folder, may in (("/etc/penstock", False), ("/home/penstock", False), ("/venv", False), ("/tmp", True)):
        if (container.runs("python", "-c", WRITES, folder).returncode == 0) is not may:
            problems.append(f"{folder} {'cannot' if may else 'can'} be written to")
    if (done := container.runs(*health_check)).returncode:
        problems.append(f"the health check fails: {done.stderr[-300:]}")
    found = container.runs("sh", "-c", f"command -v {' '.join(BUILD_TOOLS)}").stdout.split()
    return problems + [f"it has {tool}" for tool in found] + _orphans(container)


def _orphans(container: Container) -> list[str]:
    """Whether process 1 reaps a process whose parent has ended."""
    container.runs("python", "-c", ORPHAN)
    seen: list[int] = []

    def reaped() -> bool:
        seen.append(int(container.runs("python", "-c", ZOMBIES).stdout or 0))
        return max(seen) > seen[-1] == 0

    try:
        wait_until(reaped, REAP_S, "process 1 reaps an orphan")
    except AssertionError as error:
        return [f"{error}; zombies, look by look: {seen}"]
    return []


def _audit(aws: LocalAWS) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "consumer.cli", "audit", f"s3://{BUCKET}/enriched", "--stream", STREAM]
    command += ["--dead-letter", f"s3://{BUCKET}/dead-letter", "--complete", "--json"]
    done = subprocess.run(command, env={**os.environ, **aws.env}, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout or "{}")
    return {
        "exit_code": done.returncode,
        "rows": found.get("rows"),
        "dead_letters": found.get("dead_letters"),
        "said": (found.get("problems") or done.stderr[-500:]) if done.returncode else "",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- tables


def _show(console: Console, result: Mapping[str, Any]) -> None:
    weight = Table("layer", "moved", "unpacked", title="The image of examples/minilm")
    for layer in result["layers"]:
        weight.add_row(layer["reason"], size(layer["moved_mb"]), size(layer["disk_mb"]))
    weight.add_row("all", *(size(sum(layer[key] for layer in result["layers"])) for key in ("moved_mb", "disk_mb")))
    console.print(weight)
    console.print(f"a change of the model's code moves {size(result['change_moves_mb'])}")
    start = Table("start", "first task", "second task", title="Seconds until the first rows")
    for part, seconds in result["first"]["start"].items():
        start.add_row(part, f"{seconds:.2f}", f"{result['second']['start'][part]:.2f}")
    console.print(start)
    for name in ("first", "second"):
        life = result[name]
        console.print(
            f"the {name} task left within {life['leave_s']:.1f} s of SIGTERM with exit code {life['exit_code']}"
        )
    audit = result["audit"]
    console.print(f"{result['records']} records: {audit['rows']} rows, {audit['dead_letters']} dead letters")
    for problem in result["problems"]:
        console.print(f"PROBLEM: {problem}")


if __name__ == "__main__":
    main()

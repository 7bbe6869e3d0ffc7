"""An environment with the wheel and the production lock, and nothing else.

The environment stays in ``build/``, so that only the first run waits for pip; the wheel is always built and installed
again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.e2e.rig import ROOT, Rig

LOCK = ROOT / "requirements.lock"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
MOST_MB = 500
COMPILED = 1.5
"""Size of what Python compiles of a module, in sizes of its source; 1.35 were measured for all modules together."""

HELP_S = 0.3
"""CPU seconds, so that other load does not matter."""

HEAVY = {"boto3", "botocore", "cbor2", "hypercorn", "moto", "numpy", "pandas", "pyarrow", "pydantic", "torch"}
RECORDS = 40

MODEL = """
import pyarrow as pa

class Words:
    output_schema = pa.schema([("words", pa.int64())])

    def predict(self, items):
        return [{"words": len(item["text"].split())} for item in items]
"""


def ran(command: Sequence[str | Path], *, folder: Path | None = None, status: int = 0) -> str:
    """The output of a command, without the checkout on its path."""
    env = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, because setuptools leaves its results in the source and uses them again."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("consumer", "pipeline", "deploy", "examples", "notebooks"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    built = tmp_path_factory.mktemp("wheel")
    ran([*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", built, source])
    [path] = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def bare(wheel: Path) -> Iterator[Path]:
    """The ``bin`` folder of an environment with the production lock and the wheel."""
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = ROOT / "build" / f"bare-{key}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "bare.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / "is-ready").exists():
            for old in folder.parent.glob("bare-*"):
                shutil.rmtree(old)
            ran([sys.executable, "-m", "venv", "--without-pip", folder])
            ran([*install(folder), "--require-hashes", "-r", LOCK])
            (folder / "is-ready").touch()
        ran([*install(folder), "--force-reinstall", wheel])
        yield folder / "bin"


def install(folder: Path) -> list[str | Path]:
    """Python compiles what it needs; to compile everything takes longer than the rest of the installation."""
    return [*PIP, "--python", folder / "bin/python", "install", "-q", "--no-deps", "--no-compile"]


def seconds(command: Sequence[str | Path]) -> float:
    """CPU seconds, user and system."""
    before = os.times()
    ran(command)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.timeout(600)
def test_the_wheel_and_the_production_lock_are_all_that_a_consumer_needs(wheel: Path, bare: Path, rig: Rig) -> None:
    expect_only_the_product_in(wheel)
    expect_small(bare)
    ran([*PIP, "--python", bare / "python", "check"])
    expect_quick_help(bare)
    expect_one_line_for_each_extra(bare)
    expect_a_consumer_that_works(bare, rig)


def expect_only_the_product_in(wheel: Path) -> None:
    with ZipFile(wheel) as files:
        names = set(files.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"consumer", "pipeline", "deploy"}
    assert {"consumer/py.typed", "pipeline/py.typed"} <= names


def expect_small(bare: Path) -> None:
    files = [path for path in bare.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    factors = {".py": 1 + COMPILED, ".pyc": 0}
    size_mb = sum(path.stat().st_size * factors.get(path.suffix, 1) for path in files) / 1e6
    print(f"the production lock and the wheel, installed: {size_mb:.0f} MB")
    assert size_mb <= MOST_MB


def expect_quick_help(bare: Path) -> None:
    program = "import sys; from consumer.cli import main; main(['--help'], standalone_mode=False); "
    program += f"print({HEAVY} & {{*sys.modules}})"
    assert ran([bare / "python", "-c", program]).endswith("\nset()\n")
    assert min(seconds([bare / "penstock", "--help"]) for _ in range(3)) < HELP_S


def expect_one_line_for_each_extra(bare: Path) -> None:
    for words, said in {
        "demo": "Get the source; run: make demo",
        "local up": 'Run: pip install "penstock[local]"',
        "tune --config penstock.toml": 'Run: pip install "penstock[tune]"',
    }.items():
        [line] = ran([bare / "penstock", *words.split()], status=2).splitlines()
        assert line.startswith("penstock: ") and said in line


def expect_a_consumer_that_works(bare: Path, rig: Rig) -> None:
    (rig.folder / "words.py").write_text(MODEL)
    config = rig.config(model='factory = "words:Words"\nversion = "1"')
    assert "no mistakes" in ran([bare / "penstock", "config", "check", config])
    rig.create(shards=1)
    rig.put((json.dumps({"text": "a b c"}).encode(), str(number)) for number in range(RECORDS))
    worker = rig.start(config, [str(bare / "penstock")], PYTHONPATH="")
    rig.settle()
    assert worker.leave() == 0
    assert set(rig.expect_each_once()["words"]) == {3}

"""Penstock's class that is loaded before KCL's jars: compiled from the source beside it, with the methods that KCL
calls."""

from __future__ import annotations

import asyncio
import configparser
import hashlib
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from consumer.config.settings import KclSettings, StreamSettings
from consumer.kcl import aggregator, daemon
from consumer.kcl.daemon import Daemon
from consumer.kcl.java import find_jars
from pipeline.errors import Fatal, UserError
from tests.contract.kcl.test_known_properties import methods

ROOT = Path(__file__).parents[3]
MAJOR = "17"
"""Compilers may order the contents of a class file differently."""
BRIEF = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-proc:none")
"""For a compiler that runs for a second: it does not optimise itself."""


def compiler() -> str:
    javac = shutil.which("javac") or ""
    said = subprocess.run([javac, "-version"], check=True, capture_output=True, text=True).stdout if javac else ""
    if f" {MAJOR}." not in said:
        pytest.skip(f"no javac {MAJOR}")
    return javac


def our_class() -> bytes:
    with zipfile.ZipFile(aggregator.JAR) as files:
        assert files.namelist() == [f"{aggregator.NAME}.class"]
        return files.read(files.namelist()[0])


@pytest.mark.parametrize("path", aggregator.SHA256, ids=lambda path: path.suffix)
def test_the_class_belongs_to_its_source(path: Path) -> None:
    """A change of the source must be compiled, and both checksums updated."""
    assert hashlib.sha256(path.read_bytes()).hexdigest() == aggregator.SHA256[path]


def test_the_class_is_compiled_from_the_source(tmp_path: Path) -> None:
    options = ["--release", "8", "-Xlint:-options", "-g:none", "-cp", f"{find_jars()}/*", "-d", str(tmp_path)]
    subprocess.run([compiler(), *BRIEF, *options, str(aggregator.SOURCE)], check=True)
    assert (tmp_path / f"{aggregator.NAME}.class").read_bytes() == our_class()


def test_it_has_every_method_of_the_installed_kcls_class_that_others_call() -> None:
    [jar] = [each for each in find_jars().glob("amazon-kinesis-client-3*.jar") if "multilang" not in each.name]
    with zipfile.ZipFile(jar) as files:
        theirs = {each for each in methods(files.read(f"{aggregator.NAME}.class")) if each[0] == "deaggregate"}
        callers = [
            name
            for name in files.namelist()
            if name.endswith(".class")
            and not name.startswith(aggregator.NAME)
            and b"AggregatorUtil" in files.read(name)
        ]
        called = {text for name in callers for text in re.findall(rb"deaggregate", files.read(name))}
    assert len(theirs) == 3 and called
    assert theirs <= set(methods(our_class()))


def test_both_are_part_of_the_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["*"].split()
    for path in aggregator.SHA256:
        assert any(path in (ROOT / "consumer" / "kcl").glob(pattern) for pattern in patterns)


def test_a_class_that_is_not_ours_or_missing_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "penstock-kcl.jar"
    monkeypatch.setattr(aggregator, "SHA256", {other: aggregator.SHA256[aggregator.JAR]})
    monkeypatch.setattr(aggregator, "JAR", other)
    with pytest.raises(UserError, match="Install it again"):
        aggregator.jar()
    other.write_bytes(b"another")
    with pytest.raises(UserError, match="has been changed since the installation"):
        aggregator.jar()


def test_a_jvm_that_reads_a_shard_without_having_loaded_it_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "LOADED_S", 0.01)

    async def main() -> None:
        jvm = Daemon(KclSettings(java_heap_mib=256), StreamSettings(name="events", application="app"), "worker-1")
        try:
            waits = asyncio.create_task(jvm.check_aggregator(lambda: False))
            await asyncio.sleep(0.05)
            assert not waits.done()
            assert jvm._heard(f"{aggregator.SERVES}\n") and not jvm._heard("KCL|INFO|x|y")
            waits.cancel()
            jvm.aggregates_whole.clear()
            with pytest.raises(Fatal, match="another AggregatorUtil"):
                await jvm.check_aggregator(lambda: True)
        finally:
            await jvm.close()

    asyncio.run(main())

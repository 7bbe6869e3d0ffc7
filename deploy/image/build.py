"""``make image``: builds the image of a consumer, and that of a model from it, with Docker or else with buildah.

It uses only the standard library, so that any Python can run it. Buildah (as root; Debian's packages ``buildah`` and
``debootstrap``) needs no registry of images, only a mirror of Debian and an index of Python packages:
``deploy/image/base`` builds a replacement of ``python:3.11-slim``. All files are below ``build/image``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "image"
BASE = "localhost/python:3.11-slim-stand-in"
CONFIGURED = re.compile(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", re.MULTILINE)
"""A line of ``pip config list``."""

OF_A_BUILD = ("index-url", "extra-index-url", "find-links", "cert", "trusted-host", "default-timeout", "constraint")
"""Settings of this machine's pip that pip in the build needs as well."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image: its name, the Dockerfile, and the build arguments."""

    name: str
    dockerfile: str
    arguments: Mapping[str, str]


def images(given: Mapping[str, str], base: str | None) -> list[Image]:
    """The images of ``make image``, in order: without torch, with torch for CPUs, and a model on it."""
    common = {**({"PYTHON": base} if base else {}), "REVISION": revision(), **given}
    torch = {"TORCH": "cpu", **given}["TORCH"]
    plain = Image("penstock", "Dockerfile", {**common, "TORCH": "none"})
    with_torch = Image(f"penstock:{torch}", "Dockerfile", {**common, "TORCH": torch})
    model = Image("penstock-minilm", "examples/minilm/Dockerfile", {"PENSTOCK": with_torch.name})
    return [plain, with_torch, model] if torch != "none" else [plain]


def docker(image: Image, pip_conf: Path) -> list[str]:
    """The command of Docker."""
    command = ["docker", "build", "--tag", image.name, "--file", image.dockerfile, "--secret", f"id=pip,src={pip_conf}"]
    return [*command, *build_arguments(image), "."]


def buildah(image: Image, pip_conf: Path, mounted: Sequence[Path], *more: str) -> list[str]:
    """Return buildah's command, in a chroot, with one layer for each line of the Dockerfile. ``mounted``: paths that
    pip in the build finds at the same place as here; they are not stored in the image."""
    volumes = [f"--volume={path}:{path}:ro" for path in mounted]
    command = ["build", "--isolation", "chroot", "--layers", "--format", "docker", "--tag", image.name]
    command += ["--file", image.dockerfile, "--secret", f"id=pip,src={pip_conf}", *volumes, *more]
    return [*storage(), *command, *build_arguments(image), "."]


def build_arguments(image: Image) -> list[str]:
    """``--build-arg`` for each argument."""
    return [f"--build-arg={name}={value}" for name, value in image.arguments.items()]


def storage() -> list[str]:
    """Buildah, with its storage below ``build/image``. It uses overlay if the kernel has it, because vfs copies every
    layer."""
    driver = "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"
    return [
        "buildah", "--storage-driver", os.environ.get("STORAGE_DRIVER", driver),
        "--root", str(PLACE / "storage"), "--runroot", str(PLACE / "run"),
    ]  # fmt: skip


def pip_settings(listed: str) -> dict[str, str]:
    """Return pip's settings for the build, from the output of ``pip config list``; variables override files."""
    found = {name: value for name, value in CONFIGURED.findall(listed) if name in OF_A_BUILD}
    return {name: value.replace("\\n", " ") for name, value in found.items()}


def pip_conf(settings: Mapping[str, str]) -> str:
    """A configuration file of pip."""
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in settings.items()), ""])


def mounts(settings: Mapping[str, str]) -> list[Path]:
    """Return folders of this machine that pip's settings need: the files of an index are beside it."""
    words = [word for value in settings.values() for word in value.split()]
    indexes = [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")]
    paths = [Path(word) for word in words if word.startswith("/")]
    folders = [path.parent if path.is_file() else path for path in paths]
    return sorted({path for path in [*indexes, *folders] if path.is_dir()})


def revision() -> str:
    """The commit, for the image's label."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def has_docker() -> bool:
    """Whether Docker's daemon answers."""
    docker = shutil.which("docker")
    return docker is not None and not subprocess.run([docker, "info"], capture_output=True, check=False).returncode


def run(command: Sequence[str]) -> None:
    """Run a command in the checkout; end with its exit code if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:1])} failed with exit code {done.returncode}")


def output(command: Sequence[str]) -> str:
    """What it prints."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def make_base() -> None:
    """Make the replacement of the official base image, once."""
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            raise SystemExit("There is no Docker here. Without it: apt-get install buildah debootstrap, and be root")
    listed = json.loads(output([*storage(), "images", "--json"]))
    if any(BASE in (image.get("names") or ()) for image in listed):
        return
    if not (PLACE / "base").exists():
        run([str(ROOT / "deploy" / "image" / "base"), str(PLACE / "base")])
    container = subprocess.run(
        [*storage(), "from", "scratch"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run([*storage(), "add", "--quiet", container, str(PLACE / "base"), "/"])
    run([*storage(), "config", "--env", "LANG=C.UTF-8", "--cmd", "python3", container])
    run([*storage(), "commit", "--quiet", "--rm", container, BASE])


def main() -> None:
    """Build all of :func:`images`."""
    parser = argparse.ArgumentParser(description="Build the images of Penstock.")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as of docker build")
    given = dict(argument.split("=", 1) for argument in parser.parse_args().build_arg)
    PLACE.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = pip_settings(listed.stdout)
    (PLACE / "pip.conf").write_text(pip_conf(settings))
    with_docker = has_docker()
    if not with_docker:
        make_base()
        if "find-links" in settings:  # builds of torch for processors may lie there
            given = {"TORCH_INDEX": settings.get("index-url", "https://pypi.org/simple"), **given}
    for image in images(given, None if with_docker else BASE):
        began = time.monotonic()
        conf = PLACE / "pip.conf"
        run(docker(image, conf) if with_docker else buildah(image, conf, mounts(settings)))
        print(f"{image.name}: built in {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201  # a program


if __name__ == "__main__":
    main()

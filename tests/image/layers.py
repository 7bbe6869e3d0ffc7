"""What an image's layers weigh, and why each is there: sizes from the image, reasons from the Dockerfiles' comments."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.image import build

MB = 1_000_000
BASE = "The base: Debian and Python"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """``moved_mb``: compressed, as it is pushed and pulled. ``disk_mb``: unpacked."""

    id: str
    reason: str
    moved_mb: float
    disk_mb: float


def reasons(dockerfile: str) -> list[str]:
    """The comment above each line of the last stage that makes a layer."""
    stage = dockerfile[dockerfile.rindex("\nFROM ") :]
    return re.findall(r"(?m)^# (.*)\n(?:RUN|COPY) ", stage)


def export(name: str, folder: Path) -> Path:
    """Write the image as an OCI layout, compressed as for a registry."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [*build.storage(), "push", "--quiet", name, f"oci:{folder}:it"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def read(name: str, folder: Path, dockerfiles: Sequence[str]) -> list[Layer]:
    """The layers from the base up. ``dockerfiles``: the texts of those that made them, the lowest first."""
    why = [BASE, *(reason for text in dockerfiles for reason in reasons(text))]
    layers = manifest(folder)["layers"]
    assert len(layers) == len(why), f"{len(layers)} layers, {len(why)} reasons"
    return [
        Layer(known, reason, each["size"] / MB, unpacked(_blob(folder, each["digest"])) / MB)
        for known, each, reason in zip(ids(name), layers, why, strict=True)
    ]


def manifest(folder: Path) -> dict[str, Any]:
    [entry] = json.loads((folder / "index.json").read_text())["manifests"]
    found: dict[str, Any] = json.loads(_blob(folder, entry["digest"]).read_bytes())
    return found


def config(folder: Path) -> dict[str, Any]:
    """What the image says of itself: user, entrypoint, environment, labels."""
    found: dict[str, Any] = json.loads(_blob(folder, manifest(folder)["config"]["digest"]).read_bytes())
    inside: dict[str, Any] = found["config"]
    return inside


def ids(name: str) -> list[str]:
    """What the layers are known by, unpacked, from the base up."""
    told = build.output([*build.storage(), "inspect", "--type", "image", name])
    return list(json.loads(told)["OCIv1"]["rootfs"]["diff_ids"])


def kept(layers: Sequence[Layer], others: Collection[str]) -> list[Layer]:
    """The layers that another image has as well: nothing of them is moved again."""
    return [layer for layer in layers if layer.id in others]


def unpacked(path: Path) -> int:
    with gzip.open(path) as file:
        return sum(map(len, _chunks(file)))


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

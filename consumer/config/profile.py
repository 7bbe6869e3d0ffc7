"""What ``penstock tune`` found out, in a file beside the configuration; and whether it holds here and now.

A profile is used only where it was measured: same model, version and options, same processor and cores, no less memory,
same version of Penstock. Elsewhere it is left alone, and the log says why.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pipeline.errors import UserError
from pipeline.machine import cores, gpus
from pipeline.machine.memory import task_mib

if TYPE_CHECKING:
    from consumer.config.settings import Settings

SUFFIX = ".profile.json"
ABOUT = 0.95
"""Of the memory: machines of a kind differ by what their kernels keep."""
CPUS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a measurement holds for. ``options``: a hash. ``memory_mib``: the task's; 0: nobody knows."""

    factory: str
    version: str
    options: str
    target_latency_ms: float
    cores: int
    cpu: str
    gpus: int
    memory_mib: int
    penstock: str


@dataclass(frozen=True, slots=True)
class Profile:
    """``records`` and ``cost``: the best batch, the latter 0 if the model has no cost of its own.

    ``records_per_s``: of all replicas together. ``call_ms``: what nine predict calls of ten kept within.
    """

    replicas: int
    threads: int
    records: int
    cost: int
    records_per_s: float
    call_ms: float
    measured_at: str
    measured_for: Circumstances

    @property
    def batch(self) -> tuple[int, int]:
        """The best batch: records, and what it may cost (0: the model has no cost of its own)."""
        return self.records, self.cost

    def dumps(self) -> str:
        """As :func:`loads` reads it."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Found:
    """``profile``: the one that holds, or None; ``said`` is the line that tells which, or why none."""

    profile: Profile | None
    said: str


def path_of(config: Path) -> Path:
    """Where the profile of a configuration lies: ``penstock.toml`` has ``penstock.profile.json``."""
    return config.with_suffix(SUFFIX)


def circumstances(settings: Settings) -> Circumstances:
    """Of this process, on this machine, with this model."""
    return Circumstances(
        factory=settings.model.factory,
        version=settings.model.version,
        options=_hash(settings.model.options),
        target_latency_ms=settings.batch.target_latency_ms,
        cores=cores.available(),
        cpu=_cpu(),
        gpus=gpus.wanted(settings.model.device, gpus.count()),
        memory_mib=task_mib() or 0,
        penstock=version("penstock"),
    )


def find(settings: Settings) -> Found:
    """The profile beside the configuration, if there is one that holds. Never raises: it is no more than advice."""
    if settings.path is None or not (path := path_of(settings.path)).exists():
        return Found(None, "no profile: replicas and threads by the cores; `penstock tune` measures what is best")
    try:
        profile = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Found(None, f"{path.name} is not used: {error}")
    if wrong := list(differences(profile, circumstances(settings), settings)):
        return Found(None, f"{path.name} is not used: {'; '.join(wrong)}. Run `penstock tune` again")
    return Found(
        profile, f"{path.name} of {profile.measured_at}: replicas {profile.replicas}, threads {profile.threads}"
    )


def counts(settings: Settings) -> tuple[int, int]:
    """``model.replicas`` and ``model.threads`` with ``auto`` resolved: by the profile that holds, or by the cores."""
    model = settings.model
    if "auto" in (model.replicas, model.threads) and (profile := find(settings).profile):
        return profile.replicas, profile.threads
    cards = gpus.wanted(model.device, gpus.count())
    return cores.resolve(cards if cards and model.replicas == "auto" else model.replicas, model.threads)


def differences(profile: Profile, now: Circumstances, settings: Settings) -> Iterator[str]:
    """Why the profile does not hold; nothing if it does. A replica or thread count that is set must be the one."""
    then = profile.measured_for
    if then.options != now.options:
        yield "model.options are others"
    for name in ("factory", "version", "target_latency_ms", "cores", "cpu", "gpus", "penstock"):
        was, here = getattr(then, name), getattr(now, name)
        if was != here:
            yield f"{name} was {was} and is {here}"
    if now.memory_mib < then.memory_mib * ABOUT:
        yield f"it had {then.memory_mib} MiB of memory and has {now.memory_mib}"
    for name in ("replicas", "threads"):
        told, best = getattr(settings.model, name), getattr(profile, name)
        if told not in ("auto", best):
            yield f"model.{name} is {told} and was {best}"


def loads(text: str) -> Profile:
    """A profile from its JSON. ``ValueError``, in one line, if it is none."""
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004  # it is a file that is wrong, not a caller
    measured_for = Circumstances(**_typed(Circumstances, raw.get("measured_for")))
    found = Profile(**_typed(Profile, {**raw, "measured_for": measured_for}))
    if min(found.replicas, found.threads, found.records) < 1 or found.cost < 0:
        raise ValueError("replicas, threads and records are at least 1, and cost at least 0")
    return found


def write(profile: Profile, path: Path) -> None:
    """Whoever reads meanwhile gets the old one or the new one. ``UserError`` if it cannot be written."""
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(profile.dumps(), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Name another place with --output") from None


def _typed(kind: type[Profile | Circumstances], raw: object) -> dict[str, Any]:
    """The fields of ``kind``, each of its type; what is unknown is left out."""
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for field in fields(kind):
        value = raw.get(field.name) if isinstance(raw, dict) else None
        value = float(value) if hints[field.name] is float and type(value) is int else value
        if type(value) is not hints[field.name]:
            raise ValueError(f"{field.name} is missing or of the wrong type")
        given[field.name] = value
    return given


def _hash(options: object) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _cpu(cpus: Path = CPUS) -> str:
    """The processor's name, where the system tells it."""
    try:
        names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line[:10] == "model name"]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

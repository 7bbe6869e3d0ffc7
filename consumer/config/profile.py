"""The profile: what ``penstock tune`` measured, in a file beside the configuration.

A profile is used only if it was measured in the same circumstances: the same model, version and options, the same
processor and number of cores, at least as much memory, and the same version of Penstock. Otherwise it is ignored, and
the log says why.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
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
"""Share of the measured memory that a machine must have: the kernels of equal machines reserve different amounts."""
CPUS = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The circumstances of a measurement.

    ``options`` is a hash of ``model.options``. ``memory_mib`` is the memory of the task, 0 if unknown.
    """

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
    """The best configuration that was measured.

    ``records`` and ``cost`` describe the best batch; ``cost`` is 0 if the model does not define it. ``records_per_s``
    is the rate of all replicas together. ``call_ms`` is the 90th percentile of the duration of a predict call.
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
        """The best batch: its records, and its cost (0 if the model does not define it)."""
        return self.records, self.cost

    def dumps(self) -> str:
        """Return the profile as JSON; :func:`loads` reads it."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class FoundProfile:
    """``profile`` is the valid profile, or None. ``said`` is one line for the log: which profile, or why none."""

    profile: Profile | None
    said: str


def path_of(config: Path) -> Path:
    """Return the path of a configuration's profile: ``penstock.profile.json`` for ``penstock.toml``."""
    return config.with_suffix(SUFFIX)


def circumstances(settings: Settings) -> Circumstances:
    """Return the circumstances of this process, on this machine, with this model."""
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


def find(settings: Settings) -> FoundProfile:
    """Return the profile beside the configuration if it is valid here. Never raises: a task starts without one, too."""
    return _found(settings, lambda profile: circumstances(settings))


def for_task(settings: Settings, *, vcpus: int, gpu_count: int, memory_mib: int) -> FoundProfile:
    """Return the profile beside the configuration if it is valid in a task of this size.

    Which processor a task gets is not known before it runs; the one that the profile was measured on is assumed.
    """

    def there(profile: Profile) -> Circumstances:
        then, used = profile.measured_for, gpus.wanted(settings.model.device, gpu_count)
        return replace(circumstances(settings), cores=vcpus, gpus=used, memory_mib=memory_mib, cpu=then.cpu)

    return _found(settings, there)


def _found(settings: Settings, there: Callable[[Profile], Circumstances]) -> FoundProfile:
    if settings.path is None or not (path := path_of(settings.path)).exists():
        return FoundProfile(
            None, "no profile: replicas and threads follow the cores; `penstock tune` measures the best values"
        )
    try:
        profile = loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return FoundProfile(None, f"{path.name} is not used: {error}")
    if wrong := list(differences(profile, there(profile), settings)):
        return FoundProfile(None, f"{path.name} is not used: {'; '.join(wrong)}. Run `penstock tune` again")
    return FoundProfile(
        profile, f"{path.name} of {profile.measured_at}: replicas {profile.replicas}, threads {profile.threads}"
    )


def counts(settings: Settings) -> tuple[int, int]:
    """Resolve ``auto`` in ``model.replicas`` and ``model.threads``: from a valid profile, else from GPUs and cores."""
    model = settings.model
    if "auto" in (model.replicas, model.threads) and (profile := find(settings).profile):
        return profile.replicas, profile.threads
    cards = gpus.wanted(model.device, gpus.count())
    return cores.resolve(cards if cards and model.replicas == "auto" else model.replicas, model.threads)


def differences(profile: Profile, now: Circumstances, settings: Settings) -> Iterator[str]:
    """Yield each reason why the profile is not valid for ``now`` and ``settings``; nothing if it is valid."""
    then = profile.measured_for
    if then.options != now.options:
        yield "model.options have changed"
    for name in ("factory", "version", "target_latency_ms", "cores", "cpu", "gpus", "penstock"):
        was, here = getattr(then, name), getattr(now, name)
        if was != here:
            yield f"{name} was {was} and is {here}"
    if now.memory_mib < then.memory_mib * ABOUT:
        yield f"memory was {then.memory_mib} MiB and is {now.memory_mib} MiB"
    for name in ("replicas", "threads"):
        configured, best = getattr(settings.model, name), getattr(profile, name)
        if configured not in ("auto", best):
            yield f"model.{name} was {best} and is {configured}"


def loads(text: str) -> Profile:
    """Return the profile that :meth:`Profile.dumps` wrote.

    :raises ValueError: in one line, if the text is not a profile.
    """
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # the file is wrong, not the caller
    measured_for = Circumstances(**_typed(Circumstances, raw.get("measured_for")))
    found = Profile(**_typed(Profile, {**raw, "measured_for": measured_for}))
    if min(found.replicas, found.threads, found.records) < 1 or found.cost < 0:
        raise ValueError("replicas, threads and records must be at least 1, and cost at least 0")
    return found


def write(profile: Profile, path: Path) -> None:
    """Write the profile atomically: a concurrent reader gets the old file or the new one.

    :raises UserError: if it cannot be written.
    """
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(profile.dumps(), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Choose another path with --output") from None


def _typed(kind: type[Profile | Circumstances], raw: object) -> dict[str, Any]:
    """Return the fields of ``kind``, each of its declared type. Unknown fields are left out."""
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
    """The name of the processor, or its architecture if the system does not provide the name."""
    try:
        names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line[:10] == "model name"]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

"""Whether a task can leave cleanly: the arithmetic of a drain. Pure.

    batches in the model + flush + checkpoint  <  kcl.shutdown_grace_s  <  drain.budget_s  <=  120 s, ECS's longest

What the model has begun is finished when a task leaves, and nothing else is. A replica works on one batch and holds
the next, so that is two batches' time. What does not fit would be cut off: read again by the next owner, never lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from consumer.config.settings import DrainSettings, KclSettings, Settings

HANDED = 2
"""Batches with a replica at a time: ``pipeline.replicas.process.DEPTH``, without importing what predicts."""

AIM = 0.8
"""Of what a batch may take for a drain to fit: learnt batches are made for this much, since some take longer."""

CHECKPOINT_S = 2.0
"""A checkpoint is one conditional write to DynamoDB; this leaves room for a retry."""

LEAVE_S = 5.0
"""From the last shard drained to the end of the task: the JVM is ended, leases are released."""


@dataclass(frozen=True, slots=True)
class DrainBudget:
    """What a drain takes at most, in seconds. ``batch``: where the time of a batch comes from, for the reader."""

    batch_s: float
    batch: str
    flush_s: float
    grace_s: float

    @property
    def needed_s(self) -> float:
        return HANDED * self.batch_s + self.flush_s + CHECKPOINT_S

    @property
    def fits(self) -> bool:
        return self.needed_s < self.grace_s

    @property
    def fitting_batch_s(self) -> float:
        """A batch may take this long, and the drain still fits."""
        return (self.grace_s - self.flush_s - CHECKPOINT_S) / HANDED

    def __str__(self) -> str:
        return (
            f"{HANDED} batches of {self.batch_s:.3g} s ({self.batch}) + drain.flush_s {self.flush_s:g} s "
            f"+ checkpoint {CHECKPOINT_S:g} s = {self.needed_s:.3g} s"
        )


def mistakes(kcl: KclSettings, drain: DrainSettings) -> Iterator[ConfigError]:
    """What can be said before the model has been seen."""
    least_s = kcl.shutdown_grace_s + LEAVE_S
    if least_s > drain.budget_s:
        yield ConfigError(
            "drain.budget_s",
            f"kcl.shutdown_grace_s {kcl.shutdown_grace_s:g} s + {LEAVE_S:g} s to leave = {least_s:g} s "
            f"do not fit into {drain.budget_s:g} s",
            "Lower kcl.shutdown_grace_s, or raise drain.budget_s (at most 120)",
        )
    batch_s = 0.0 if drain.longest_batch_s == "auto" else drain.longest_batch_s
    total = DrainBudget(batch_s, "drain.longest_batch_s", drain.flush_s, kcl.shutdown_grace_s)
    if not total.fits:
        yield ConfigError(
            "kcl.shutdown_grace_s",
            f"{total} do not fit into {kcl.shutdown_grace_s:g} s",
            "Raise it (and drain.budget_s, at most 120 s), or make batches smaller with [batch] max_records",
        )


def fitting_batch_s(settings: Settings) -> float:
    """A batch may take this long, and a drain still fits."""
    return DrainBudget(0.0, "", settings.drain.flush_s, settings.kcl.shutdown_grace_s).fitting_batch_s


def learnt_batch_s(settings: Settings) -> float:
    """What ``batch.adaptive`` lets a batch take, as far as that can be foreseen."""
    return AIM * fitting_batch_s(settings)


def check(settings: Settings, example_s: float | None) -> DrainBudget | None:
    """Once the model is warm: raise ``ConfigError`` if a full batch is too long for a clean leave.

    Where ``drain.longest_batch_s`` does not say how long a batch takes, it is taken for ``batch.max_records`` times the
    model's
    example, which is right for models that are busy with one item and too much for others. Batches that are learnt are
    kept below what fits, so they are refused only if a single item does not fit. None: there is neither.
    """
    drain, grace_s, most = settings.drain, settings.kcl.shutdown_grace_s, settings.batch.max_records
    if drain.longest_batch_s != "auto":
        return DrainBudget(drain.longest_batch_s, "drain.longest_batch_s", drain.flush_s, grace_s)
    if example_s is None:
        return None
    measured = f"batch.max_records {most} x {example_s:.2g} s, measured with the model's example"
    total = DrainBudget(most * example_s, measured, drain.flush_s, grace_s)
    if not total.fits and settings.batch.adaptive:
        learnt_s = max(example_s, learnt_batch_s(settings))
        learnt = "the most that batch.adaptive aims at" if learnt_s > example_s else "one item, the model's example"
        total = DrainBudget(learnt_s, learnt, drain.flush_s, grace_s)
    if total.fits:
        return total
    fitting = int(total.fitting_batch_s / example_s)
    lower = (
        f"Set batch.max_records to {fitting} or less" if fitting else "Raise kcl.shutdown_grace_s and drain.budget_s"
    )
    raise ConfigError(
        "kcl.shutdown_grace_s",
        f"{total} do not fit into {grace_s:g} s, so a task could not leave cleanly",
        f"{lower}; or, if a full batch is quicker than that, say how long it takes in drain.longest_batch_s",
    )


def check_timeout(settings: Settings, example_s: float | None) -> str | None:
    """Once the model is warm: raise ``ConfigError`` if the example alone is longer than ``model.timeout_s``.

    What to say if a full batch may be; None if it is not, if ``drain.longest_batch_s`` says so, or if nobody knows.
    """
    timeout_s, most = settings.model.timeout_s, settings.batch.max_records
    if example_s is None:
        return None
    if example_s > timeout_s:
        raise ConfigError(
            "model.timeout_s",
            f"the model's example alone takes {example_s:.3g} s, which is more than {timeout_s:g} s",
            "Raise it, or every record would time out",
        )
    if settings.drain.longest_batch_s != "auto" or most * example_s <= timeout_s:
        return None
    return (
        f"batch.max_records {most} x {example_s:.2g} s, measured with the model's example, = {most * example_s:.3g} s "
        f"do not fit into model.timeout_s {timeout_s:g} s: batches begin smaller, and grow if they are quicker than "
        f"that. Raise model.timeout_s or lower batch.max_records; or set drain.longest_batch_s"
    )


def outgrown(believed: DrainBudget | None, batch_s: float, settings: Settings) -> str | None:
    """Why the task, as its batches really are, could not leave cleanly now; None if it could.

    ``batch_s``: the 99th percentile of what batches have taken of late.
    """
    grace_s = settings.kcl.shutdown_grace_s
    real = DrainBudget(batch_s, "99th percentile of late", settings.drain.flush_s, grace_s)
    if real.fits:
        return None
    thought = f" instead of {believed.batch_s:.3g} s" if believed is not None else ""
    return f"batches take {batch_s:.3g} s{thought}: {real} do not fit into kcl.shutdown_grace_s {grace_s:g} s"

"""Whether a task has time to drain before it is killed. Pure.

    batches in the model + flush + checkpoint  <  kcl.shutdown_grace_s  <  drain.budget_s  <=  120 s (limit of ECS)

A drain finishes the batches that have been sent to the model, and starts none. A replica computes one batch and holds
the next, so a drain waits for two batches. Records of a batch that does not finish in time are not lost: the next owner
of the shard reads them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, brief_s

if TYPE_CHECKING:
    from consumer.config.settings import DrainSettings, KclSettings, Settings

HANDED = 2
"""Batches sent to a replica at a time. Equal to ``pipeline.replicas.process.DEPTH``, which would be slow to import."""

AIM = 0.8
"""Adaptive batches aim at this share of the longest batch that a drain allows, because some batches take longer."""

CHECKPOINT_S = 2.0
"""Seconds for the last checkpoint: one conditional write to DynamoDB, and one retry."""

LEAVE_S = 5.0
"""Seconds from the last drained shard to the exit of the task: the JVM ends and leases are released."""


@dataclass(frozen=True, slots=True)
class DrainBudget:
    """The longest time a drain takes, in seconds.

    ``batch`` says where ``batch_s`` comes from; it appears in messages. ``grace_s`` is ``kcl.shutdown_grace_s``.
    """

    batch_s: float
    batch: str
    flush_s: float
    grace_s: float

    @property
    def needed_s(self) -> float:
        """Seconds that the drain takes at most."""
        return HANDED * self.batch_s + self.flush_s + CHECKPOINT_S

    @property
    def fits(self) -> bool:
        """Whether the drain ends within ``grace_s``."""
        return self.needed_s < self.grace_s

    @property
    def fitting_batch_s(self) -> float:
        """The duration of a batch, in seconds, below which the drain fits."""
        return (self.grace_s - self.flush_s - CHECKPOINT_S) / HANDED

    def __str__(self) -> str:
        return (
            f"{HANDED} batches of {brief_s(self.batch_s)} ({self.batch}) + drain.flush_s {self.flush_s:g} s "
            f"+ checkpoint {CHECKPOINT_S:g} s = {brief_s(self.needed_s)}"
        )


def told(longest: DrainBudget | None) -> str:
    """The line of the log about the longest drain; None: unknown."""
    if longest is None:
        return "drain time unknown: define example() on the model to have it checked at start"
    return f"a drain takes at most {longest}"


def mistakes(kcl: KclSettings, drain: DrainSettings) -> Iterator[ConfigError]:
    """Return the mistakes that can be found without running the model."""
    least_s = kcl.shutdown_grace_s + LEAVE_S
    if least_s > drain.budget_s:
        yield ConfigError(
            "drain.budget_s",
            f"kcl.shutdown_grace_s {kcl.shutdown_grace_s:g} s + {LEAVE_S:g} s to exit = {least_s:g} s, "
            f"but the limit is {drain.budget_s:g} s",
            "Lower kcl.shutdown_grace_s, or raise drain.budget_s (at most 120)",
        )
    batch_s = 0.0 if drain.longest_batch_s == "auto" else drain.longest_batch_s
    total = DrainBudget(batch_s, "drain.longest_batch_s", drain.flush_s, kcl.shutdown_grace_s)
    if not total.fits:
        yield ConfigError(
            "kcl.shutdown_grace_s",
            f"a drain may take {total}, but the limit is {kcl.shutdown_grace_s:g} s",
            "Raise it (and drain.budget_s, at most 120 s), or lower batch.max_records and drain.longest_batch_s",
        )


def fitting_batch_s(settings: Settings) -> float:
    """The duration of a batch, in seconds, below which a drain fits into ``kcl.shutdown_grace_s``."""
    return DrainBudget(0.0, "", settings.drain.flush_s, settings.kcl.shutdown_grace_s).fitting_batch_s


def learnt_batch_s(settings: Settings) -> float:
    """The duration, in seconds, that ``batch.adaptive`` aims to stay below. A single batch may take longer."""
    return AIM * fitting_batch_s(settings)


def check(settings: Settings, example_s: float | None) -> DrainBudget | None:
    """Check, once the model is warm, that a full batch leaves time for a drain.

    The duration of a full batch is ``drain.longest_batch_s``. If that is ``auto``, it is ``batch.max_records`` times
    ``example_s``, the duration of the model's example: an upper bound for models that compute items in parallel. With
    ``batch.adaptive``, batches stay below the limit, so only a single item can be too long.

    Returns None if the duration is unknown: ``auto``, and the model has no example (``example_s`` is None).

    :raises ConfigError: if the drain does not fit.
    """
    drain, grace_s, most = settings.drain, settings.kcl.shutdown_grace_s, settings.batch.max_records
    if drain.longest_batch_s != "auto":
        return DrainBudget(drain.longest_batch_s, "drain.longest_batch_s", drain.flush_s, grace_s)
    if example_s is None:
        return None
    measured = f"batch.max_records {most} x {brief_s(example_s)}, the duration of the model's example"
    total = DrainBudget(most * example_s, measured, drain.flush_s, grace_s)
    if not total.fits and settings.batch.adaptive:
        learnt_s = max(example_s, learnt_batch_s(settings))
        learnt = "the maximum that batch.adaptive aims at" if learnt_s > example_s else "one item, the model's example"
        total = DrainBudget(learnt_s, learnt, drain.flush_s, grace_s)
    if total.fits:
        return total
    fitting = int(total.fitting_batch_s / example_s)
    lower = (
        f"Set batch.max_records to {fitting} or less" if fitting else "Raise kcl.shutdown_grace_s and drain.budget_s"
    )
    raise ConfigError(
        "kcl.shutdown_grace_s",
        f"a drain may take {total}, but the limit is {grace_s:g} s",
        f"{lower}; or, if a full batch takes less time, set drain.longest_batch_s to its duration",
    )


def check_timeout(settings: Settings, example_s: float | None) -> str | None:
    """Check, once the model is warm, that a batch can finish within ``model.timeout_s``.

    Returns a warning if a full batch may take longer. Returns None if it cannot, if ``drain.longest_batch_s`` is set,
    or if the model has no example (``example_s`` is None).

    :raises ConfigError: if the example alone takes longer.
    """
    timeout_s, most = settings.model.timeout_s, settings.batch.max_records
    if example_s is None:
        return None
    if example_s > timeout_s:
        raise ConfigError(
            "model.timeout_s",
            f"the model's example alone takes {brief_s(example_s)}, more than {timeout_s:g} s",
            "Raise it: every record would time out",
        )
    if settings.drain.longest_batch_s != "auto" or most * example_s <= timeout_s:
        return None
    return (
        f"batch.max_records {most} x {brief_s(example_s)}, the duration of the model's example, = "
        f"{brief_s(most * example_s)}, more than model.timeout_s ({timeout_s:g} s): "
        "batches start smaller and grow if they take less time. "
        f"Raise model.timeout_s or lower batch.max_records; or set drain.longest_batch_s"
    )


def outgrown(believed: DrainBudget | None, batch_s: float, settings: Settings) -> str | None:
    """Return a warning if the batches measured in production leave too little time for a drain; None otherwise.

    ``batch_s`` is the 99th percentile of the durations of recent batches. ``believed`` is what :func:`check` returned
    at the start.
    """
    grace_s = settings.kcl.shutdown_grace_s
    real = DrainBudget(batch_s, "99th percentile of recent batches", settings.drain.flush_s, grace_s)
    if real.fits:
        return None
    expected = f" instead of {brief_s(believed.batch_s)}" if believed is not None else ""
    return (
        f"batches take {brief_s(batch_s)}{expected}: a drain may take {real}, "
        f"but the limit is {grace_s:g} s (kcl.shutdown_grace_s)"
    )

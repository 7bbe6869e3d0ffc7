"""Warm throughput: capacity that an on-demand stream has in advance, for accounts that pay for a minimum throughput."""

from __future__ import annotations

from typing import Any

from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError, limit_exceeded
from consumer.local.kinesis.reshards import require_room, uniform_steps
from consumer.local.kinesis.stream import HOUR_MS, SHARDS_AT_FIRST, PendingChange, Stream, Timestamp

MOST_MIB = 10 * 1024
COMMITTED_MS = 24 * HOUR_MS


def describe_account(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DescribeAccountSettings."""
    return {"MinimumThroughputBillingCommitment": _commitment(engine, now_ms)}


def update_account(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """UpdateAccountSettings. A commitment lasts at least 24 hours, even if it is disabled earlier."""
    account, on = engine.commitment, is_committed(engine, now_ms)
    if request["MinimumThroughputBillingCommitment"]["Status"] == "ENABLED":
        account.started_ms = account.started_ms if on else now_ms
        account.ends_ms = None
    elif on:
        assert account.started_ms is not None
        account.ends_ms = max(now_ms, account.started_ms + COMMITTED_MS)
    return describe_account(engine, request, now_ms)


def is_committed(engine: Engine, now_ms: int) -> bool:
    """Whether the account pays for a minimum throughput at this time."""
    account = engine.commitment
    return account.started_ms is not None and (account.ends_ms is None or now_ms < account.ends_ms)


def _commitment(engine: Engine, now_ms: int) -> dict[str, Any]:
    account, on = engine.commitment, is_committed(engine, now_ms)
    status = "DISABLED" if not on else "ENABLED" if account.ends_ms is None else "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
    shown: dict[str, Any] = {"Status": status}
    if account.started_ms is not None:
        shown["StartedAt"] = Timestamp(account.started_ms)
        if on:
            shown["EarliestAllowedEndAt"] = Timestamp(account.started_ms + COMMITTED_MS)
        elif account.ends_ms is not None:
            shown["EndedAt"] = Timestamp(account.ends_ms)
    return shown


def update_warm_throughput(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """UpdateStreamWarmThroughput. The stream gets one shard per MiB/s, and four at least."""
    stream = engine.find(request)
    stream.require_active()
    mib = request["WarmThroughputMiBps"]
    require_warm(engine, stream.place, stream.mode, mib, now_ms)
    warm_up(engine, stream, mib, now_ms)
    return {
        "StreamARN": stream.arn,
        "StreamName": stream.name,
        "WarmThroughput": shown(stream),
    }


def require_warm(engine: Engine, place: str, mode: str, mib: int | None, now_ms: int) -> None:
    """Check that a stream may have this warm throughput in MiB/s. None is always allowed.

    :raises KinesisError: as AWS does, for the wrong mode, an account without a commitment, or more than 10 GiB/s.
    """
    if mib is None:
        return
    if mode != "ON_DEMAND":
        raise KinesisError("ValidationException", f"WarmThroughput is not supported for {place} in mode {mode}.")
    if not is_committed(engine, now_ms):
        raise KinesisError(
            "ValidationException",
            f"WarmThroughput for {place} needs an account with MinimumThroughputBillingCommitment. "
            "Enable it with UpdateAccountSettings.",
        )
    if mib > MOST_MIB:
        raise limit_exceeded(f"WarmThroughput for {place} cannot be more than {MOST_MIB} MiB a second.")


def shards_for(mib: int | None) -> int:
    """Return the number of shards for a warm throughput in MiB/s; four at least."""
    return max(mib or 0, SHARDS_AT_FIRST)


def warm_up(engine: Engine, stream: Stream, mib: int, now_ms: int) -> None:
    """Set the warm throughput of a stream and reshard it accordingly."""
    target = shards_for(mib)
    require_room(engine, target - len(stream.open_shards()))
    steps = uniform_steps(stream, target)
    stream.warm_mib = mib
    stream.begin(PendingChange("UPDATING", now_ms + engine.change_ms, lambda at_ms: stream.take_steps(steps, at_ms)))


def shown(stream: Stream) -> dict[str, int]:
    """Return ``WarmThroughput`` as descriptions show it: the requested MiB/s, and those of the open shards."""
    current = len(stream.open_shards())
    return {"TargetMiBps": current if stream.warm_mib is None else stream.warm_mib, "CurrentMiBps": current}

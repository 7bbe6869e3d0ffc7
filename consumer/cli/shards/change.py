"""Common parts of ``penstock shards scale``, ``split`` and ``merge``: plan, print, carry out, wait."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from consumer.admin.application import Target
from consumer.admin.shards import cost, observed, sampling, undo
from consumer.admin.shards.carry_out import ReshardOutside, carry_out, until_active
from consumer.admin.shards.changes import Refusal, ReshardPlan, ReshardRequest, ReshardStep, Scale, Split
from consumer.admin.shards.convergence import Convergence, Left
from consumer.admin.shards.keyspace import alike, range_of
from consumer.admin.shards.planner import plan
from consumer.admin.shards.recounts import Log, seconds
from consumer.admin.shards.report import ReshardReport, money
from consumer.admin.shards.survey import Survey, identity, shards_now, survey
from consumer.aws import prices as price_file
from consumer.aws import shards as aws_shards
from consumer.aws.clients import Aws
from consumer.cli import output
from consumer.cli.options import command_line, only_with
from pipeline.errors import NothingToDo, PenstockError, RefusedError, UserError, counted

SHOWN = 40
"""Rows of a plan on a terminal; all when piped, and in ``--json``."""

LOOK_S = 2.0
"""Seconds between two reads of leases and shards."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The user's request. ``about``: lines that say where it comes from."""

    name: str
    request: ReshardRequest
    about: tuple[str, ...]
    target: Target
    prices: Path | None
    undo: Path | None
    execute: bool
    wait: bool
    timeout: float
    as_json: bool


def change(name: str, request: ReshardRequest, *, about: tuple[str, ...] = (), **options: Any) -> None:
    """Plan, print, and with ``--execute`` carry out. ``options`` are those that every change has."""
    only_with("timeout", "wait")
    wanted = _Wanted(name, request, about, **options)
    stream = wanted.target.stream
    if wanted.wait and wanted.target.application is None:
        raise UserError("--wait looks at the application's leases. Give --config FILE or --application NAME")
    aws, own = Aws(), Log()
    outside = ReshardOutside(aws.client("kinesis"))
    if wanted.execute:
        aws.ask(f"stream {stream}", lambda: _until_active(outside, stream))
    found: Survey = aws.ask(f"stream {stream}", lambda: survey(aws.client, stream, own))
    planned = plan(found.state, request)
    if isinstance(planned, Refusal):
        _without_a_call(aws, wanted, planned, found)
        return
    report = _report(found, planned, price_file.load(outside.kinesis.meta.region_name, wanted.prices))
    fresh = undo.undo_of(identity(found.summary), f"{datetime.now(UTC):%FT%TZ}", request, planned)
    begun = undo.begun(_undo_paths(wanted), fresh)
    path, back = begun or (_undo_path(wanted), fresh)
    if not wanted.as_json:
        _print(report, about)
        kept = f"the interrupted run wrote its file at {back.taken_at}, which is kept" if begun else ""
        output.line(f"undo: {undo.described(back)}; {kept or 'its file is written first'}: {path}")
    if wanted.execute:
        undo.write(path, back, again=begun is not None)
        _carry_out(outside, request, planned.steps, own, found)
        undo.write(path, replace(back, done=True), again=True)
    converged = _follow(aws, wanted.target, wanted.timeout) if wanted.execute and wanted.wait else None
    if wanted.as_json:
        said = {**report.to_dict(), "about": list(about), "executed": wanted.execute, "converged": converged}
        output.emit(f"shards.{name}", {**said, "undo": str(path) if wanted.execute else None})
    elif wanted.execute:
        to_undo = command_line("shards undo", str(path), "--execute")
        output.line(f"done: stream {stream} has {counted(len(planned.then), 'open shard')}; to undo it: {to_undo}")
    else:
        output.line("nothing changed; run again with --execute to carry this out")


def undo_change(file: Path, *, target: Target, **options: Any) -> None:
    """Change the shards back, as an undo file has them."""
    aws = Aws()
    kinesis = aws.client("kinesis")
    summary = aws.ask(f"stream {target.stream}", lambda: aws_shards.summary(kinesis, target.stream))
    back = undo.read(file, identity(summary))
    state = aws.ask(f"stream {target.stream}", lambda: shards_now(kinesis, target.stream))
    request = undo.request_back(back, state)
    if isinstance(request, Refusal):
        refuse(request)
    change("undo", request, target=target, about=(undo.makes(back),), **options)


def _undo_paths(wanted: _Wanted) -> list[Path]:
    """Where an interrupted run of the same command may have written its file."""
    return [wanted.undo] if wanted.undo else sorted(Path().glob(f"penstock-undo-{wanted.target.stream}-*.json"))


def _undo_path(wanted: _Wanted) -> Path:
    """As given, or a name that is free: two changes may be made within a second."""
    name = f"penstock-undo-{wanted.target.stream}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    names = (Path(f"{name}{suffix}.json") for suffix in ("", *(f"-{number}" for number in range(2, 1_000))))
    return wanted.undo or next(path for path in names if not path.exists())


def _without_a_call(aws: Aws, wanted: _Wanted, refusal: Refusal, found: Survey) -> None:
    """Also wait if the stream needs no change: an earlier run may have been interrupted while it waited."""
    if refusal.kind == "nothing" and isinstance(wanted.request, Scale) and not alike(found.state.shards):
        count = wanted.request.count
        raise RefusedError(
            f"{refusal.why}, but not of the same size, and UpdateShardCount changes nothing at the same count. Scale "
            f"to {2 * count} first, then to {count}; or split and merge single shards"
        )
    if not (refusal.kind == "nothing" and wanted.execute and wanted.wait):
        refuse(refusal)
    output.note(refusal.why)
    _follow(aws, wanted.target, wanted.timeout)
    if wanted.as_json:
        said = {"stream": wanted.target.stream, "calls": [], "notes": [refusal.why], "about": list(wanted.about)}
        output.emit(f"shards.{wanted.name}", {**said, "executed": True, "converged": True})


def _report(found: Survey, planned: ReshardPlan, prices: price_file.Prices) -> ReshardReport:
    summary = found.summary

    def daily(shards: int) -> cost.Daily:
        return cost.daily(prices, shards, consumers=summary.consumers, retention_hours=summary.retention_hours)

    took_s = seconds(planned.steps, found.own_calls)
    before, after = daily(len(planned.now)), daily(len(planned.then))
    return ReshardReport(summary.name, planned, took_s, before, after, prices.currency, prices.source)


def weighted_split(shard_id: str, *, target: Target, **options: Any) -> None:
    """Split at the median of the sampled load. Refused if one key has more than half of it."""
    aws = Aws()
    kinesis = aws.client("kinesis")
    known = aws.ask(f"stream {target.stream}", lambda: aws_shards.known(kinesis, target.stream))
    shard = known.get(shard_id)
    if shard is None or not shard.open:
        change("split", Split(shard_id, anywhere=True), target=target, **options)
        return
    since_s = time.time() - sampling.SAMPLE_S
    output.note(f"reading a sample of {shard_id}, one read a second")
    taken = aws.ask(
        f"stream {target.stream}", lambda: sampling.sample(kinesis, target.stream, shard_id, since_s=since_s)
    )
    weights = observed.weights_of(range_of(shard), taken.records)
    found = observed.median(shard_id, weights)
    if isinstance(found, observed.NoMedian):
        raise RefusedError(found.why)
    line = (
        f"of {counted(len(taken.records), 'record')} sampled over {output.seconds(taken.span_s)}, by "
        f"{'bytes' if weights.by_bytes else 'records'}: {100 * found.lower:.0f} % go to the lower shard, "
        f"{100 * found.upper:.0f} % to the upper"
    )
    change("split", Split(shard_id, found.at), target=target, about=(line,), **options)


def _until_active(outside: ReshardOutside, stream: str) -> None:
    status = aws_shards.summary(outside.kinesis, stream).status
    if status != "ACTIVE":
        output.note(f"stream {stream} is {status}; waiting until it is ACTIVE")
        until_active(outside, stream)


def refuse(refusal: Refusal) -> NoReturn:
    """Raise the error that ends the command with the refusal's exit code."""
    kinds: dict[str, type[PenstockError]] = {"mistake": UserError, "refused": RefusedError, "nothing": NothingToDo}
    raise kinds[refusal.kind](refusal.why)


def _print(report: ReshardReport, about: tuple[str, ...]) -> None:
    rows = report.rows()
    output.line(
        f"stream {report.stream}: {counted(len(report.plan.now), 'open shard')} now, {len(report.plan.then):,} then"
    )
    shown = rows[:SHOWN] if sys.stdout.isatty() else rows
    output.table(("then", "share", "first hash key", "from"), shown, right=("share",))
    if len(shown) < len(rows):
        output.line(f"… and {len(rows) - len(shown):,} more; --json has all")
    if report.unchanged:
        output.line(f"unchanged: {counted(report.unchanged, 'shard')}")
    for line in about:
        output.line(line)
    for place, step in enumerate(report.plan.steps, 1):
        output.line(f"call {place}: {step}")
    took = "unknown: this machine has made no such call yet; AWS says a few minutes, depending on the stream's size"
    output.line("records: none moves; they stay in the shards that they were put into")
    output.line(f"time: {took if report.takes_s is None else 'about ' + output.seconds(report.takes_s)}")
    before, after = (money(each.total, report.currency) for each in (report.before, report.after))
    output.line(f"a day: {before} now, {after} then ({report.prices})")
    for note in report.plan.notes:
        output.line(f"note: {note}")


def _carry_out(
    outside: ReshardOutside, request: ReshardRequest, steps: tuple[ReshardStep, ...], own: Log, found: Survey
) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    stream = found.summary.name
    with output.progress("changing shards", len(steps)) as advance:

        def tell(step: ReshardStep) -> None:
            output.note(f"done: {step}")
            advance()

        try:
            now = partial(shards_now, outside.kinesis, stream)
            carry_out(outside, now, request, steps, own, identity(found.summary), tell)
        except KeyboardInterrupt:
            output.note("interrupted: Kinesis completes the call in progress. Run the same command again to continue")
            raise
        except (ClientError, BotoCoreError) as error:
            raise PenstockError(f"stream {stream}: {error}. Run the same command again to continue") from None


def _follow(aws: Aws, target: Target, timeout: float) -> bool:
    """Wait until the application has followed; raises ``PenstockError`` with what is left."""
    assert target.application is not None
    deadline, converging = time.monotonic() + timeout, Convergence()
    left = _look(aws, target, converging)
    told: list[str] = []
    with output.progress(f"application {target.application} follows", left.count) as advance:
        while left.count:
            if left.stages != told:
                told = left.stages
                output.note(str(left))
            if time.monotonic() > deadline:
                raise PenstockError(f"application {target.application} has not followed yet: {left}")
            time.sleep(LOOK_S)
            now = _look(aws, target, converging)
            advance(left.count - now.count)
            left = now
    output.note(f"application {target.application} has followed: {left}")
    return True


def _look(aws: Aws, target: Target, converging: Convergence) -> Left:
    from consumer.leases import leases

    kinesis, application = aws.client("kinesis"), target.application or ""
    shards = aws.ask(f"stream {target.stream}", lambda: aws_shards.known(kinesis, target.stream))
    found = aws.ask(f"lease table {application}", lambda: leases.read(aws.client("dynamodb"), application))
    if not found:
        raise UserError(f'there is no lease in table "{application}". Check --application, and that a worker has run')
    return converging.look(shards, found)

"""``penstock shards list``: what it reads, and how it prints it."""

from __future__ import annotations

import sys
import time

from consumer.admin.application import Target
from consumer.admin.shards import listing
from consumer.admin.shards.lineage import Node, forest
from consumer.admin.shards.listing import Listing
from consumer.admin.shards.readers import Reader, readers
from consumer.admin.shards.report import percent
from consumer.aws import shards as aws_shards
from consumer.aws.clients import Aws
from consumer.cli import output
from pipeline.errors import counted

SHOWN = 40
"""Rows on a terminal; more with ``--all``, or when piped."""

HOT_KEYS = 10

COLUMNS = ("shard", "state", "share", "records/s", "KiB/s", "of its limit")


def list_shards(target: Target, *, sample: bool, everything: bool, as_json: bool) -> None:
    """Read the shards of the stream, and print them with their load."""
    aws = Aws()
    found: Listing = aws.ask(f"stream {target.stream}", lambda: _read(aws, target, sample=sample))
    if as_json:
        output.emit("shards.list", found.to_dict())
        return
    for line in summary(found):
        output.line(line)
    hot = [(key.key, shard_id, percent(part)) for shard_id, key, part in found.hot_keys(HOT_KEYS)]
    if found.samples and not hot:
        output.line("hottest keys: unknown, since no record arrived in the last five minutes")
    elif hot:
        output.table(("hottest keys", "shard", "share of the shard's records"), hot)
    every = rows(found)
    shown = every if everything or not sys.stdout.isatty() else every[:SHOWN]
    output.table(COLUMNS, shown, right=COLUMNS[2:])
    if len(shown) < len(every):
        output.line(f"… and {len(every) - len(shown):,} more; --all has them")


def rows(found: Listing) -> list[tuple[object, ...]]:
    """Every shard, below its parent."""
    return [_row(found, node) for node in forest(found.shards)]


def summary(found: Listing) -> list[str]:
    """The stream on one screen, however many shards it has."""
    opened, said = found.open, found.summary
    shares = [listing.share(shard) for shard in opened]
    mode = "provisioned" if said.mode == "PROVISIONED" else "on demand"
    closed = len(found.shards) - len(opened)
    there = f"{counted(len(opened), 'open shard')}, {closed:,} closed within {said.retention_hours} h"
    lines = [f"stream {said.name}: {said.status}, {mode}, {there}"]
    if opened:
        even = f"{percent(min(shares))} to {percent(max(shares))}" if max(shares) - min(shares) > 1e-9 else "evenly"
        lines.append(f"hash keys: shared {even}{'' if found.whole else '; a change is under way'}")
    lines.append(f"load: {_load(found)}")
    if found.readers:
        lines += [f"read by: {_reader(reader, len(opened))}" for reader in found.readers]
    else:
        lines.append("read by: unknown. Name applications with --application: Kinesis does not know who polls")
    return lines


def _read(aws: Aws, target: Target, *, sample: bool) -> Listing:
    kinesis = aws.client("kinesis")
    said = aws_shards.summary(kinesis, target.stream)
    known = aws_shards.known(kinesis, target.stream)
    open_ids = sorted(shard.shard_id for shard in known.values() if shard.open)
    named = [target.application] if target.application else []
    loads, source = listing.measured(aws.client, said, open_ids, time.time()), None
    samples = {}
    if loads is not None:
        source = f"CloudWatch, last {output.seconds(listing.WINDOW_S)}"
    if sample:
        with output.progress("reading a sample of each shard", len(open_ids)) as advance:
            samples = listing.sampled(kinesis, target.stream, open_ids, advance)
    if loads is None and sample:
        loads = {shard_id: taken.load for shard_id, taken in samples.items()}
        source = f"a sample of the last {output.seconds(listing.WINDOW_S)}"
    return Listing(said, known, loads or {}, source, samples, readers(aws.client, said, known, named))


def _load(found: Listing) -> str:
    if found.source is None:
        return "unknown: shard-level metrics are not enabled on the stream; --sample reads some records of each shard"
    loads = [found.loads[shard.shard_id] for shard in found.open if shard.shard_id in found.loads]
    if not loads:
        return f"unknown: no data ({found.source})"
    records, size = sum(load.records_per_s for load in loads), sum(load.bytes_per_s for load in loads)
    hottest = max(found.loads, key=lambda shard_id: listing.of_limit(found.loads[shard_id]) or 0.0)
    most = percent(listing.of_limit(found.loads[hottest]) or 0.0)
    missing = len(found.open) - len(loads)
    unknown = f"; {counted(missing, 'shard')} unknown" if missing else ""
    return (
        f"{records:,.1f} records/s, {size / 1024:,.1f} KiB/s ({found.source}); the hottest is {hottest} with {most} of "
        f"its limit{unknown}"
    )


def _reader(reader: Reader, opened: int) -> str:
    owned = "leases unknown" if reader.owned is None else f"{reader.owned:,} of {counted(opened, 'open shard')} owned"
    return f"{reader.application} ({reader.how}; {owned})"


def _row(found: Listing, node: Node) -> tuple[object, ...]:
    shard = node.shard
    load = found.loads.get(shard.shard_id)
    name = f"{'  ' * (node.depth - 1)}└ {shard.shard_id}" if node.depth else shard.shard_id
    if node.other_parent:
        name += f" (also of {node.other_parent})"
    if not shard.open:
        return name, "closed", percent(listing.share(shard)), "", "", ""
    limit = listing.of_limit(load)
    return (
        name,
        "open",
        percent(listing.share(shard)),
        load.records_per_s if load else None,
        load.bytes_per_s / 1024 if load else None,
        percent(limit) if limit is not None else None,
    )

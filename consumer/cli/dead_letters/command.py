"""``penstock dead-letters``: list and show; ``redrive`` is in another file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.dead_letters.options import filter_options, places_options
from consumer.cli.dead_letters.redrive import redrive
from consumer.cli.options import Group, json_option
from pipeline.errors import counted

if TYPE_CHECKING:
    from consumer.letters.letter import Letter, LetterFilter
    from consumer.letters.places import Places
    from consumer.letters.plan import Verdict

LONGEST_REASON = 100
"""Characters of a reason in a table."""

STATES = ("waits", "redriven", "failed again", "cannot be redriven")


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List, show and redrive dead letters: records that could not become rows. Also: penstock dlq.

    Dead letters quote payloads: access to them is access to the stream's data.
    """


dead_letters.add_command(redrive)


@dead_letters.command("list")
@places_options
@filter_options
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="Maximum number of letters shown.")
@json_option
def list_(places: Places, chosen: LetterFilter, limit: int, as_json: bool) -> None:
    """Count dead letters by kind and reason, then list the first of them.

    Reasons that differ only in numbers or quoted text are counted together. With the table (--config, or --table), also
    shows which letters are redriven, failed again, or cannot be redriven.

    \b
    Examples:
      penstock dead-letters list --config penstock.toml
      penstock dlq list --config penstock.toml --kind exception --from "2h ago" --where "data.user == 'u1'"
    """
    from consumer.cli import output

    listing = _Listing(limit)
    with output.progress("dead letters") as advance:
        for of in places.objects(chosen):
            for letter, verdict in places.judged(of):
                if chosen.wants(letter):
                    listing.add(letter, verdict)
                    advance()
    if as_json:
        output.emit("dead-letters.list", listing.said())
    else:
        listing.show()


@dataclass(slots=True)
class _Listing:
    """Count all letters, and keep the first ``limit`` without their payloads."""

    limit: int
    counts: dict[tuple[str, str], Counter[str | None]] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0

    def add(self, letter: Letter, verdict: Verdict | None) -> None:
        from consumer.letters.reasons import sort_of

        self.total += 1
        sort = (str(letter.said["kind"]), sort_of(letter.said["reason"]))
        self.counts.setdefault(sort, Counter())[None if verdict is None else verdict.state] += 1
        if len(self.first) < self.limit:
            self.first.append(_line(letter, verdict))

    def said(self) -> dict[str, Any]:
        from pipeline.escape import harmless

        counts = [
            {"kind": kind, "reason": reason, "letters": states.total(), **_by_state(states)}
            for (kind, reason), states in self._ordered()
        ]
        said: dict[str, Any] = harmless({"total": self.total, "counts": counts, "letters": self.first})
        return said

    def show(self) -> None:
        from consumer.cli import output
        from pipeline.errors import cut

        if not self.total:
            output.line("no dead letters")
            return
        rows = [
            (kind, states.total(), *(_by_state(states)[name] for name in NAMES), cut(reason, LONGEST_REASON))
            for (kind, reason), states in self._ordered()
        ]
        numbers = ["letters", "redriven", "failed again", "cannot be redriven"]
        output.table(["kind", *numbers, "reason"], rows, right=numbers)
        if self.first:
            columns = ["record", "kind", "arrived", "model", "attempts", "state", "reason"]
            output.table(columns, [_row(line) for line in self.first])
        if self.total > len(self.first):
            output.line(f"{counted(self.total, 'dead letter')}; the first {len(self.first):,} are listed (--limit)")

    def _ordered(self) -> list[tuple[tuple[str, str], Counter[str | None]]]:
        return sorted(self.counts.items(), key=lambda each: -each[1].total())


NAMES = ("redriven", "failed_again", "cannot")


def _by_state(states: Counter[str | None]) -> dict[str, int | None]:
    """The states of letters; None if the table is not known."""
    if None in states:
        return dict.fromkeys(NAMES)
    return {name: states[state] for name, state in zip(NAMES, STATES[1:], strict=True)}


def _line(letter: Letter, verdict: Verdict | None) -> dict[str, Any]:
    said = {name: value for name, value in letter.said.items() if name not in {"traceback", "sha256"}}
    known = {
        "state": None if verdict is None else verdict.state,
        "why": None if verdict is None else verdict.why or None,
        "redrives_failed": None if verdict is None else len(verdict.failures),
    }
    return {**said, "payload_bytes": len(letter.payload), **known}


def _row(line: dict[str, Any]) -> tuple[object, ...]:
    from pipeline.errors import cut

    failed = line["redrives_failed"]
    attempts = f"{line['attempts']} and {counted(failed, 'redrive')}" if failed else line["attempts"]
    where = (line["record_id"], line["kind"], line["arrived_at"], line["model_version"])
    return (*where, attempts, line["state"], cut(line["reason"], LONGEST_REASON))


@dead_letters.command()
@click.argument("record_id", metavar="ID")
@places_options
@click.option("--payload", "raw", is_flag=True, help="Write the payload, byte for byte, and nothing else.")
@json_option
def show(record_id: str, places: Places, raw: bool, as_json: bool) -> None:
    """Show one record's dead letter: why it failed, each redrive, and its payload, decoded as far as possible.

    ID is its record_id, as `penstock dead-letters list` shows it.

    \b
    Examples:
      penstock dead-letters show events/shardId-000000000000/4957/0 --config penstock.toml
      penstock dlq show events/shardId-000000000000/4957/0 --config penstock.toml --payload > payload
    """
    from consumer.cli import output
    from pipeline.errors import UserError

    found = places.find(record_id)
    if not found:
        raise UserError(f"{record_id}: has no dead letter here. `penstock dead-letters list` shows which records have")
    if raw:
        click.echo(found[0][0].payload, nl=False)
        return
    if as_json:
        output.emit("dead-letters.show", {"letters": [_whole(letter, verdict) for letter, verdict in found]})
        return
    for letter, verdict in found:
        _show(letter, verdict)


def _whole(letter: Letter, verdict: Verdict | None) -> dict[str, Any]:
    import base64
    import dataclasses

    from consumer.letters.decoded import decoded
    from pipeline.escape import harmless

    said = _line(letter, verdict)
    failures = [dataclasses.asdict(each) for each in verdict.failures] if verdict else []
    for failure in failures:
        del failure["position"]
    payload = decoded(letter.payload)
    whole: dict[str, Any] = harmless({**said, "traceback": letter.said["traceback"], "failures": failures})
    return {
        **whole,
        "payload_base64": base64.b64encode(letter.payload).decode(),
        "decoded": {"steps": payload.steps, "text": payload.text},
    }


def _show(letter: Letter, verdict: Verdict | None) -> None:
    from consumer.cli import output
    from consumer.letters.decoded import decoded

    for name, value in _line(letter, verdict).items():
        if value is not None or name == "state":
            output.line(f"{name}: {output.UNKNOWN if value is None else value}")
    for failure in verdict.failures if verdict else ():
        output.line(f"redrive at {failure.failed_at}, model {failure.model_version}: {failure.kind}: {failure.reason}")
    if letter.said["traceback"]:
        _block("traceback", letter.said["traceback"])
    payload = decoded(letter.payload)
    _block(f"payload ({'; '.join(payload.steps)})", payload.text)


def _block(title: str, text: str) -> None:
    from consumer.cli import output

    output.line(f"{title}:")
    for line in text.rstrip().splitlines():
        output.line(f"  {line}")

"""The three ways of ``penstock status``: once, again and again, or a live screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from consumer.admin.application import Target
    from consumer.admin.status.observe import Observer
    from consumer.admin.status.report import Status


def statuses(aws: Any, observer: Observer, target: Target) -> Iterator[Status]:
    """One status after the other. If the first look fails, raise; a later failure is reported in the next status."""
    from dataclasses import replace

    from consumer.admin.status.diagnose import LOOKS_S, diagnose
    from consumer.admin.status.observe import check
    from pipeline.errors import UserError

    earlier: list[Any] = []
    found: Status | None = None
    while True:
        try:
            look = aws.ask(f"application {target.application}", observer.look)
            check(look, target.stream)
        except UserError as error:
            if found is None:
                raise
            yield replace(found, unread=(str(error),))
            continue
        found = diagnose(target.stream, look, earlier)
        earlier = [each for each in earlier if look.at_s - each.at_s <= LOOKS_S] + [look]
        yield found


def show(found: Status, *, as_json: bool) -> None:
    """Print one status, as JSON or as the screen for people."""
    from consumer.admin.status.report import as_json as plain
    from consumer.cli import output
    from consumer.cli.status import screen
    from pipeline.escape import harmless

    if as_json:
        output.emit("status", harmless(plain(found)))
    else:
        screen.show(found)


def show_each(looks: Iterator[Status], every_s: float, *, as_json: bool) -> None:
    """Print each status; as JSON, one object per line."""
    import time

    for found in looks:
        show(found, as_json=as_json)
        if not as_json:
            click.echo()
        time.sleep(every_s)


def live(looks: Iterator[Status], every_s: float, sleep: Callable[[float], object] | None = None) -> None:
    """Drawn four times a second from the last look, so that a screen of another size is filled at once."""
    import time

    from rich.console import Console
    from rich.live import Live

    from consumer.cli.status.screen import Screen

    screen = Screen(next(looks))
    with Live(screen, console=Console(highlight=False), screen=True, refresh_per_second=4):
        while True:
            (sleep or time.sleep)(every_s)
            screen.status = next(looks)

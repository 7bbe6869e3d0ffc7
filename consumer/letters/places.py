"""The places of an application's dead letters, its table, and the notes of its redrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from consumer.aws.clients import Aws
from consumer.config.load import load
from consumer.config.settings import Settings
from consumer.config.sink_settings import ParquetSettings
from consumer.letters.letter import Letter, LetterFilter, LetterObject, find, objects
from consumer.letters.plan import LetterJudge, Verdict
from pipeline.errors import UserError
from pipeline.stores import open_store
from pipeline.stores.base import ObjectStore
from pipeline.table.names import REDRIVES


@dataclass(frozen=True, slots=True)
class Places:
    """``judge``: None if the table is not known, so that it is unknown which letters are redriven."""

    letters: ObjectStore
    judge: LetterJudge | None

    def objects(self, chosen: LetterFilter) -> Iterator[LetterObject]:
        """Yield the objects that may have selected letters."""
        return objects(self.letters, chosen)

    def judged(self, of: LetterObject) -> Iterator[tuple[Letter, Verdict | None]]:
        """Yield each letter of an object with its state."""
        if self.judge is not None:
            yield from self.judge.verdicts(of)
        else:
            yield from ((letter, None) for letter in of.letters())

    def find(self, record_id: str) -> list[tuple[Letter, Verdict | None]]:
        """Return one record's letters with their states."""
        found: list[tuple[Letter, Verdict | None]] = []
        for of in find(self.letters, record_id):
            found += [each for each in self.judged(of) if each[0].record_id == record_id]
        return found


def places_of(config: Path | None, url: str | None, table: str | None) -> Places:
    """Return the places of a configuration or of urls.

    :raises UserError: neither or both are given, or the configuration has a mistake.
    """
    if config is not None and table is not None:
        raise UserError("--config names the table already. Leave out --table, or give --url instead of --config")
    for named in filter(None, (url, table)):
        if not named.startswith("s3://") and not Path(named).is_dir():
            raise UserError(f"{named}: there is no such folder. Name the url of the dead letters, or of the table")
    if (config is None) == (url is None):
        raise UserError("Give --config FILE, or --url URL of the dead letters, with --table URL of the table")
    if config is not None:
        return of_settings(load(config))
    return _places(url or "", table, opener())


def of_settings(settings: Settings, store: Callable[[str], ObjectStore] | None = None) -> Places:
    """Return the places of an application: its table is that of the first Parquet sink, whose files name dead
    letters."""
    return _places(settings.dead_letter.url, table_url(settings), store or opener())


def table_url(settings: Settings) -> str | None:
    """Return the table whose files name the dead letters; None if there is no Parquet sink."""
    return next((entry.url for entry in settings.sink if isinstance(entry, ParquetSettings)), None)


def opener() -> Callable[[str], ObjectStore]:
    """Return a function that opens the store at a URL, and makes a client when one is needed."""
    aws = Aws()
    return lambda url: open_store(url, lambda: aws.client("s3"))


def _places(url: str, table: str | None, store: Callable[[str], ObjectStore]) -> Places:
    judge = LetterJudge(store(table), store(notes_url(url))) if table else None
    return Places(store(url), judge)


def notes_url(url: str) -> str:
    """Return the place of the notes of redrives for dead letters at this URL."""
    return f"{url.rstrip('/')}{REDRIVES}"

"""A slice of a stream, read again beside the application: each record once."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
from click.testing import CliRunner

from consumer.cli import main
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import PENSTOCK, ROOT, Rig, wait_until

DONE_S = 90


def a_slice_is_read_again(rig: Rig, config: Path, begin_ms: int, end_ms: int, count: int) -> None:
    """Interrupted once. The application stays as it was."""
    wanted = rows_between(rig.rows(), begin_ms, end_ms)
    assert len(wanted) == count
    before = checkpoints(rig)

    replayed = Replay(rig, config, begin_ms, end_ms)
    first = replayed.start("--rate", "40")
    wait_until(lambda: len(replayed.rows()) > 0, DONE_S, "the first rows of the slice")
    first.send_signal(signal.SIGTERM)
    assert first.wait(DONE_S) == 130, replayed.said()
    assert 0 < len(replayed.rows()) < len(wanted)

    assert replayed.start().wait(DONE_S) == 0, replayed.said()
    rows = replayed.rows()
    assert said(rows) == said(wanted), "what the application said of the same records"
    assert audit(FolderStore(replayed.table), None).problems == []
    assert replayed.answer()["finished"] is True
    assert replayed.answer()["application"] not in rig.dynamodb.list_tables()["TableNames"]
    assert checkpoints(rig) == before
    refused = CliRunner().invoke(main, replayed.words)
    assert refused.exit_code == 3, f"its table is complete: {refused.output}"


class Replay:
    def __init__(self, rig: Rig, config: Path, begin_ms: int, end_ms: int) -> None:
        self.table = rig.folder / "replayed"
        self._rig = rig
        times = ["--from", iso(begin_ms), "--to", iso(end_ms)]
        self.words = ["replay", "--config", str(config), *times, "--url", str(self.table), "--execute", "--json"]

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        folder = self._rig.folder
        with (folder / "replay.json").open("wb") as stdout, (folder / "replay.log").open("ab") as stderr:
            return subprocess.Popen(
                [*PENSTOCK, *self.words, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def rows(self) -> pd.DataFrame:
        files = list(self.table.glob("dt=*/*.parquet"))
        return pd.read_parquet(self.table) if files else pd.DataFrame({"record_id": []})

    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._rig.folder / "replay.json").read_text())
        return found

    def said(self) -> str:
        return (self._rig.folder / "replay.log").read_text()[-4000:]


def a_moment() -> int:
    """A time without a record in the same millisecond, or in the ones beside it."""
    time.sleep(0.05)  # the clock is what is waited for
    now_ms = round(time.time() * 1000)
    time.sleep(0.05)  # as above
    return now_ms


def iso(epoch_ms: int) -> str:
    return pd.Timestamp(epoch_ms, unit="ms", tz="UTC").isoformat()


def rows_between(rows: pd.DataFrame, begin_ms: int, end_ms: int) -> pd.DataFrame:
    begin, end = (pd.Timestamp(each, unit="ms", tz="UTC") for each in (begin_ms, end_ms))
    return rows[(rows["arrived_at"] >= begin) & (rows["arrived_at"] < end)]


def said(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    """All values except the time at which a row was written, by record."""
    columns = [name for name in rows.columns if name not in ("processed_at", "dt")]
    return sorted(rows[columns].itertuples(index=False, name=None))


def checkpoints(rig: Rig) -> dict[str, object]:
    return {shard_id: (lease.checkpoint, lease.sentinel) for shard_id, lease in rig.leases().items()}

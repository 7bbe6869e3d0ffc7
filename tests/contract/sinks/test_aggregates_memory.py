"""The host processes the largest aggregates in memory that its limits bound, and every user record is settled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.chaos import hostile
from tests.support.hosts import ROOT
from tests.support.large_aggregates import HUGE_ONES

IN_FLIGHT_MIB = 32
FILE_MIB = 8
"""``flush_mib``."""

AT_MOST_MIB = 2 * IN_FLIGHT_MIB + 4 * FILE_MIB
"""MiB for the records in flight as Python objects, and for a file that is being encoded: its table, its dead letters
and their bytes."""

ROWS = HUGE_ONES * hostile.HUGE
PLACE = ["sequence_number", "sub_sequence_number"]
LETTERS = hostile.EMPTIES + hostile.LONG_KEYED


@pytest.mark.timeout(120)
def test_aggregates_of_170000_user_records_and_others_take_no_more_memory_than_the_window(tmp_path: Path) -> None:
    """In a separate process: 340,000 user records of 2 MB, which were 170 MB as records all at once."""
    command = [sys.executable, "-m", "tests.support.large_aggregates", str(tmp_path), str(IN_FLIGHT_MIB)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["grown_mib"] < AT_MOST_MIB
    table, dead = tmp_path / "it" / "table", tmp_path / "it" / "dead"
    places = pa.concat_tables(pq.read_table(file, columns=PLACE) for file in sorted(table.rglob("*.parquet")))
    letters = [each for file in dead.rglob("*.jsonl") for each in letters_of(file)]
    assert (places.num_rows, len(letters)) == (ROWS, LETTERS)
    assert (places.group_by(PLACE).aggregate([]).num_rows, len(set(letters))) == (ROWS, LETTERS)
    assert audit(FolderStore(table), FolderStore(dead)).problems == []


def letters_of(file: Path) -> list[str]:
    return [json.loads(line)["record_id"] for line in file.read_bytes().splitlines()]

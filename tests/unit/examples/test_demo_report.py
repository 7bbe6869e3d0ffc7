"""The command that the demo prints last can be run as printed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.demo.report import reading


@pytest.mark.parametrize("name", ["enriched", 'it\'s a "table" of $HOME'])
def test_the_line_that_reads_the_table_runs_in_a_shell(name: str, tmp_path: Path) -> None:
    table = tmp_path / name
    (table / "dt=2026-11-27").mkdir(parents=True)
    pq.write_table(
        pa.table({"other": [0], "name": ["read as printed"], "embedding": [[0.5]]}),
        table / "dt=2026-11-27" / "a.parquet",
    )
    run = subprocess.run(["/bin/sh", "-c", reading(table)], capture_output=True, text=True, env={}, check=False)
    assert run.returncode == 0, run.stderr
    assert "read as printed" in run.stdout

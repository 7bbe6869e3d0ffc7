"""Foreign objects below a table never end a writer; a footer does not grow with dead letters."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import Fatal
from pipeline.record import Dead, Position, Record
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files, ParquetSink
from pipeline.stores.base import ObjectStore
from pipeline.stores.folder import FolderStore
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from pipeline.table.names import Names
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import MORNING_MS, SCHEMA, SHARD, record, runs

NAMES = Names(SHARD)
FOREIGN = io.BytesIO()
pq.write_table(pa.table({"a": [1]}), FOREIGN)
BODIES = [b"", b"PAR1", b"no Parquet" * 9, FOREIGN.getvalue()]


def work(store: ObjectStore, ledger: Ledger, start: int, stop: int) -> Position | None:
    """Run a session that begins at ``start``. Return where the list ends."""
    chain, files = Chain(NAMES, flush_interval_s=0, flush_bytes=10**9), Files(store, NAMES, SCHEMA, ledger)
    chain.end = files.held(record(start), None)
    for part in range(start, stop, 5):
        chain.add(runs(part, min(part + 5, stop)).records, 0.0)
        chain.seal()
        while file := chain.next(0.0):
            chain.written(files.prepare(file, f"w{start}")())
    return chain.end


def strays(store: MemoryStore, body: bytes) -> None:
    day = NAMES.day(MORNING_MS)
    for name in ("_SUCCESS", ".DS_Store", "dt=2026-11-18/part-0.parquet", f"{day}_x.parquet", f"{day}7.parquet"):
        store.objects[name] = (body, {})


@pytest.mark.parametrize("body", BODIES)
def test_strays_end_no_session_and_the_auditor_names_them(body: bytes) -> None:
    store, ledger = MemoryStore(), Ledger(MemoryStore(), MemoryStore())
    strays(store, body)
    assert work(store, ledger, 1, 12) == Position(11, 0)
    assert work(store, ledger, 3, 20) == Position(19, 0)
    problems = audit(store, ledger.final).problems
    assert {problem.kind for problem in problems} == {"stray"} and len(problems) == 5


@pytest.mark.parametrize("body", BODIES)
def test_foreign_objects_with_file_names_are_ignored_unless_they_have_the_next_key(body: bytes) -> None:
    store, ledger = MemoryStore(), Ledger(MemoryStore(), MemoryStore())
    assert work(store, ledger, 1, 12) == Position(11, 0)
    store.objects[NAMES.key(record(9))] = (body, {})
    store.objects[NAMES.key(record(14))] = (body, {})
    assert work(store, ledger, 10, 20) == Position(19, 0)
    store.objects[NAMES.key(record(20))] = (body, {})
    with pytest.raises(Fatal, match=f"{NAMES.key(record(20))} has the next file.s name.*Remove it"):
        work(store, ledger, 20, 25)


def test_an_object_that_was_copied_without_its_metadata_is_known_by_its_footer() -> None:
    store, ledger = MemoryStore(), Ledger(MemoryStore(), MemoryStore())
    work(store, ledger, 1, 12)
    store.objects = {key: (body, {}) for key, (body, _) in store.objects.items()}
    assert work(store, ledger, 3, 20) == Position(19, 0)
    assert {problem.kind for problem in audit(store, ledger.final).problems} == {"metadata"}


def test_foreign_files_in_a_folder_do_not_end_the_check_or_a_session(tmp_path: Path) -> None:
    root = tmp_path / "table"
    day = root / "dt=2026-11-18"
    (day / "a.parquet").mkdir(parents=True)
    (day / "a.parquet" / "b.parquet").write_bytes(b"x")
    (day / "gone.parquet").symlink_to(tmp_path / "nowhere")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "dt=2026-11-17").mkdir()
    (root / Names(SHARD).key(record(1)).replace("18", "17", 1)).write_bytes(FOREIGN.getvalue())
    store, ledger = FolderStore(root), Ledger(FolderStore(tmp_path / "dead"), FolderStore(tmp_path / "dead.staged"))
    sink = ParquetSink(name="t", store=store, flush_interval_s=1, flush_mib=1, schema=SCHEMA, ledger=ledger)
    asyncio.run(sink.check())
    assert work(store, ledger, 1, 12) == Position(11, 0)
    assert work(store, ledger, 6, 14) == Position(13, 0)
    assert {problem.kind for problem in audit(store, ledger.final).problems} == {"stray", "unreadable"}


def dead_of_one_aggregate(count: int, *, key: str = "key") -> list[Record]:
    dead = Dead(b"a secret", "a secret reason", "a secret trace", 1)
    return [
        Record(SHARD.shard_id, b"", key, "7", sub, MORNING_MS, sub == count - 1, outcome=dead) for sub in range(count)
    ]


def test_97000_dead_user_records_of_one_aggregate_leave_a_table_that_every_reader_reads() -> None:
    store, ledger = MemoryStore(), Ledger(MemoryStore(), MemoryStore())
    chain, files = Chain(NAMES, flush_interval_s=0, flush_bytes=64 << 20), Files(store, NAMES, SCHEMA, ledger)
    chain.add([*dead_of_one_aggregate(97_000), record(8)], 0.0)
    chain.seal()
    while file := chain.next(0.0):
        chain.written(files.prepare(file, f"writer-{file.key[-18:-8]}")())
    for key, (body, _) in store.objects.items():
        assert int.from_bytes(body[-8:-4], "little") < 32 * 1024, key
        assert b"secret" not in body
        assert pq.ParquetFile(io.BytesIO(body)).metadata.num_rows == len(pd.read_parquet(io.BytesIO(body)))
    assert max(len(body) for body, _ in ledger.final.objects.values()) < 16 << 20  # type: ignore[attr-defined]
    lines = [line for key in sorted(ledger.final.list("")) for line in (ledger.final.get(key) or b"").splitlines()]
    assert [orjson.loads(line)["sub_sequence_number"] for line in lines[::1000]] == list(range(0, 97_000, 1000))
    report = audit(store, ledger.final)
    assert report.problems == [] and (report.rows, report.dead_letters) == (1, 97_000)


def test_keys_of_20000_characters_cut_files_before_a_table_of_them_costs_gigabytes() -> None:
    chain = Chain(NAMES, flush_interval_s=0, flush_bytes=64 << 20)
    chain.add(dead_of_one_aggregate(4_000, key="k" * 20_000), 0.0)
    file = chain.next(0.0)
    assert file is not None and len(file.records) * 20_000 <= 8 << 20


def test_missing_staged_letters_end_the_task_with_the_fix() -> None:
    store, ledger = MemoryStore(), Ledger(MemoryStore(), MemoryStore())
    chain, files = Chain(NAMES, flush_interval_s=0, flush_bytes=1), Files(store, NAMES, SCHEMA, ledger)
    chain.add(runs(1, 3, dead=True).records, 0.0)
    file = chain.next(0.0)
    assert file is not None
    files.prepare(file, "w1")()
    assert isinstance(ledger.final, MemoryStore) and isinstance(ledger.staged, MemoryStore)
    ledger.final.objects.clear()
    ledger.staged.objects["w1.jsonl"] = (b"other", {})
    with pytest.raises(Fatal, match="Restore it, or put an empty object"):
        work(store, ledger, 1, 5)
    ledger.staged.objects["w1.jsonl"] = (b"", {})
    assert work(store, ledger, 1, 5) == Position(4, 0)

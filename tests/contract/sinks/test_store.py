"""One suite for every object store: a write is all or nothing, and a key is written once."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.stub import Stubber
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from pipeline.stores import open_store
from pipeline.stores.base import Denied, ObjectStore, Retryable, TooLarge
from pipeline.stores.folder import FolderStore
from pipeline.stores.memory import MemoryStore
from pipeline.stores.s3 import PROBE, S3Store
from pipeline.table.audit import audit
from pipeline.table.schema import encode

METADATA = {"penstock-end": "12/0", "penstock-previous-end": "", "penstock-writer": "me"}
KEY = "v=1/dt=2026-11-23/1700000000-shardId-000000000000-01.parquet"


def parquet(metadata: dict[str, str] = METADATA) -> bytes:
    table = pa.table({"record_id": ["a"], "sequence_number": ["1"]})
    return encode(table, {**metadata, "penstock.dead_letters": "a line\n"})


def one_by_one(answer: Callable[..., Any]) -> Callable[..., Any]:
    """moto checks first and writes later, so of two concurrent conditional writes both would succeed, unlike on S3."""
    lock = threading.Lock()

    def alone(*args: Any) -> Any:
        with lock:
            return answer(*args)

    return alone


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(BotocoreStubber, "process_request", one_by_one(BotocoreStubber.process_request))
    with mock_aws():
        client = made_client()
        client.create_bucket(Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield client


@cache
def made_client() -> Any:
    """Made once: the tests share it, each with a moto of its own."""
    return boto3.client("s3", region_name="eu-west-1")


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    makers: dict[str, Callable[[], ObjectStore]] = {
        "memory": MemoryStore,
        "folder": lambda: FolderStore(tmp_path / "deep" / "table"),
        "s3": lambda: S3Store(request.getfixturevalue("bucket"), "lake", "deep/table"),
    }
    return makers[request.param]()


def test_a_key_is_written_once_and_keeps_its_first_body(store: ObjectStore) -> None:
    first, second = parquet(), parquet({**METADATA, "penstock-writer": "you"})
    assert store.put_new(KEY, first, METADATA)
    assert not store.put_new(KEY, second, {**METADATA, "penstock-writer": "you"})
    assert store.get(KEY) == first
    assert store.head(KEY) == METADATA


def test_a_missing_object_is_none(store: ObjectStore) -> None:
    assert store.head(KEY) is None
    assert store.get(KEY) is None
    assert store.list("") == []
    assert store.list("v=1/dt=2026-11-23/17") == []


def test_keys_are_listed_sorted_by_any_prefix_of_their_names(store: ObjectStore) -> None:
    keys = ["v=1/dt=2026-11-23/7-a-02.jsonl", "v=1/dt=2026-11-23/7-a-01.jsonl", "v=1/dt=2026-11-24/7-a-03.jsonl"]
    for key in [*keys, "v=1/dt=2026-11-23/7-b-01.jsonl", "v=10/dt=2026-11-23/7-a-01.jsonl"]:
        assert store.put_new(key, key.encode(), {})
    assert store.list("v=1/dt=2026-11-23/7-a-") == [keys[1], keys[0]]
    assert store.list("v=1/") == [keys[1], keys[0], "v=1/dt=2026-11-23/7-b-01.jsonl", keys[2]]
    assert store.list("v=1/", limit=1) == [keys[1]]
    assert len(store.list("")) == 5
    assert store.get(keys[2]) == keys[2].encode()


def test_of_many_writers_at_once_one_wins(store: ObjectStore) -> None:
    with ThreadPoolExecutor(6) as threads:
        for number in range(5):
            bodies = [f"{number} {writer}".encode() for writer in range(6)]
            won = list(threads.map(lambda body, key=f"{number}.jsonl": store.put_new(key, body, {}), bodies))
            assert won.count(True) == 1
            assert store.get(f"{number}.jsonl") == bodies[won.index(True)]


def test_a_check_leaves_nothing_behind(store: ObjectStore) -> None:
    store.check()
    assert store.list("") == []
    store.put_new(KEY, parquet(), METADATA)
    store.check()
    assert store.list("") == [KEY]


def test_urls_name_their_store(bucket: Any, tmp_path: Path) -> None:
    folder = open_store(str(tmp_path / "table"), lambda: pytest.fail("no client is needed"))
    assert isinstance(folder, FolderStore)
    assert open_store("s3://lake/some/prefix/", lambda: bucket).put_new("a.jsonl", b"a", {})
    assert open_store("s3://lake", lambda: bucket).list("") == ["some/prefix/a.jsonl"]


# -- a folder


def test_only_complete_files_are_ever_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            seen.append([path for path in (tmp_path / "table").rglob("*") if path.is_file()])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    assert FolderStore(tmp_path / "table").put_new("dt=1/a.jsonl", b"a", {})
    assert seen == [[]]
    assert not list((tmp_path / "table.penstock" / "tmp").iterdir())


def test_the_name_of_a_new_file_is_synced_up_to_the_folder_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    FolderStore(tmp_path / "table").put_new("v=1/dt=1/a.jsonl", b"a", {})
    for folder in (tmp_path, tmp_path / "table", tmp_path / "table" / "v=1", tmp_path / "table" / "v=1" / "dt=1"):
        assert folder.stat().st_ino in synced


def test_a_file_in_place_of_the_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("not a folder")
    with pytest.raises(Denied, match="Use a folder"):
        FolderStore(tmp_path / "table").check()
    with pytest.raises(Denied, match="Use a folder"):
        FolderStore(tmp_path / "table").put_new(KEY, b"", {})
    with pytest.raises(Denied, match="Use a folder that exists or can be created"):
        FolderStore(tmp_path / ("x" * 300)).check()


def test_partial_files_of_killed_workers_are_swept_after_a_day(tmp_path: Path) -> None:
    aside = tmp_path / "table.penstock" / "tmp"
    aside.mkdir(parents=True)
    for name, age_s in (("old", 0), ("young", None)):
        (aside / name).write_bytes(b"half")
        if age_s is not None:
            os.utime(aside / name, (age_s, age_s))
    FolderStore(tmp_path / "table").check()
    assert [path.name for path in aside.iterdir()] == ["young"]


# -- S3's answers


def s3_that_answers(code: str, status: int) -> S3Store:
    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="k", aws_secret_access_key="s")
    stubber = Stubber(client)
    stubber.add_client_error("put_object", code, "as it says", status)
    stubber.activate()
    return S3Store(client, "lake", "table")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ConditionalRequestConflict", 409),
        ("SlowDown", 503),
        ("InternalError", 500),
        ("RequestTimeout", 400),
        ("TooManyRequests", 429),
    ],
)
def test_answers_that_pass_are_retryable(code: str, status: int) -> None:
    with pytest.raises(Retryable, match=code):
        s3_that_answers(code, status).put_new(KEY, b"", {})


@pytest.mark.parametrize(
    ("code", "status", "fix"),
    [
        ("AccessDenied", 403, "s3:PutObject"),
        ("NoSuchBucket", 404, "Create the bucket"),
        ("ExpiredToken", 400, "expired"),
        ("SomethingNew", 403, "s3:PutObject"),
        ("InvalidRequest", 400, "as it says"),
    ],
)
def test_refusals_say_what_to_fix(code: str, status: int, fix: str) -> None:
    with pytest.raises(Denied, match=fix) as caught:
        s3_that_answers(code, status).put_new(KEY, b"", {})
    assert code in str(caught.value) and "\n" not in str(caught.value)


def test_412_is_a_key_that_is_taken() -> None:
    assert s3_that_answers("PreconditionFailed", 412).put_new(KEY, b"", {}) is False


def test_a_silent_s3_is_retryable() -> None:
    class Silent:
        def put_object(self, **_: Any) -> None:
            raise ConnectTimeoutError(endpoint_url="http://127.0.0.1")

    with pytest.raises(Retryable):
        S3Store(Silent(), "lake", "table").put_new(KEY, b"", {})


def test_a_bucket_that_may_only_be_read_fails_the_check(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**given: Any) -> None:
        assert given["Key"] == f"table/{PROBE}"
        answer: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, "PutObject")

    monkeypatch.setattr(bucket, "put_object", refuse)
    with pytest.raises(Denied, match="s3:PutObject"):
        S3Store(bucket, "lake", "table").check()


def test_no_bucket_fails_the_check(bucket: Any) -> None:
    with pytest.raises(Denied, match="Create the bucket"):
        S3Store(bucket, "sea", "table").check()


def test_the_end_of_an_object_is_read_without_the_rest(store: ObjectStore) -> None:
    store.put_new("a.parquet", b"0123456789", {})
    store.put_new("empty.jsonl", b"", {})
    assert store.end("a.parquet", 4) == b"6789" and store.end("a.parquet", 99) == b"0123456789"
    assert store.end("empty.jsonl", 4) == b"" and store.end("nothing", 4) is None


def test_an_object_that_is_larger_than_it_may_be_is_not_read(store: ObjectStore) -> None:
    store.put_new("a.jsonl", b"0123456789", {})
    assert store.get("a.jsonl", 10) == b"0123456789"
    with pytest.raises(TooLarge, match="10 bytes"):
        store.get("a.jsonl", 9)


def test_empty_objects_of_s3_that_stand_for_folders_are_passed_over(bucket: Any) -> None:
    for key in ("table/", "table/dt=2026-11-23/"):
        bucket.put_object(Bucket="lake", Key=key, Body=b"")
    store = S3Store(bucket, "lake", "table")
    assert store.list("") == [] and audit(store).problems == []
    bucket.put_object(Bucket="lake", Key="table/", Body=b"x")
    bucket.put_object(Bucket="lake", Key="table/dt=2026-11-24/", Body=b"x")
    assert [problem.key for problem in audit(store).problems] == ["/", "dt=2026-11-24/"]

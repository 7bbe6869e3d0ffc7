"""The local Kinesis's engine with one stream, on a clock that moves only when told to."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.operations import perform

START_S = 1_700_000_000.0
HASH_KEYS = 1 << 128


class Kinesis:
    """Its methods are operations; ``s`` is the stream if a call names none."""

    def __init__(self, shards: int = 1, limits: bool = False) -> None:
        self.engine = Engine("us-east-1", limits=limits)
        self.now_s = START_S
        self("CreateStream", ShardCount=shards)
        self.now_s += 1

    def __call__(self, operation: str, **body: Any) -> dict[str, Any]:
        if not {"ShardIterator", "NextToken", "StreamARN", "ResourceARN", "ConsumerARN"} & body.keys():
            body.setdefault("StreamName", "s")
        return perform(self.engine, operation, body, round(self.now_s * 1000))

    def refused(self, operation: str, **body: Any) -> str:
        with pytest.raises(KinesisError) as refused:
            self(operation, **body)
        return refused.value.code

    def change(self, operation: str, **body: Any) -> None:
        """Change the stream, and let the time pass that this takes."""
        self(operation, **body)
        self.now_s += 0.4

    def put(self, data: bytes = b"x", key: str = "k", **more: Any) -> dict[str, Any]:
        return self("PutRecord", Data=data, PartitionKey=key, **more)

    def shards(self, **filter: Any) -> list[dict[str, Any]]:
        return list(self("ListShards", **({"ShardFilter": filter} if filter else {}))["Shards"])

    def ids(self, **filter: Any) -> list[int]:
        return [int(shard["ShardId"][-3:]) for shard in self.shards(**filter)]

    def open(self) -> list[dict[str, Any]]:
        found = self.shards(Type="AT_LATEST")
        return sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def iterator(self, shard: int = 0, kind: str = "TRIM_HORIZON", **more: Any) -> str:
        body = {"ShardId": f"shardId-{shard:012d}", "ShardIteratorType": kind, **more}
        return str(self("GetShardIterator", **body)["ShardIterator"])

    def read(self, iterator: str, **more: Any) -> dict[str, Any]:
        return self("GetRecords", ShardIterator=iterator, **more)

    def data(self, shard: int = 0, kind: str = "TRIM_HORIZON", **more: Any) -> list[bytes]:
        return [record["Data"] for record in self.read(self.iterator(shard, kind, **more))["Records"]]

    def all_of(self, shard_id: str, limit: int = 3) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Read a shard from its beginning to its present end. Return the records, and its children."""
        iterator = self.iterator(int(shard_id[-12:]))
        records = []
        while True:
            answer = self.read(iterator, Limit=limit)
            records += answer["Records"]
            if "NextShardIterator" not in answer:
                return records, answer["ChildShards"]
            if not answer["Records"]:
                return records, []
            iterator = answer["NextShardIterator"]

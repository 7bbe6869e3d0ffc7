"""The downstream stream of the simulated application, as a boto3 client: refuses rows, loses calls and answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError, ConnectTimeoutError

REFUSED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
STREAM = "enriched"


class Downstream:
    """The client of one task. ``begins`` and ``ends`` are called around each call, and may raise boto3's errors.
    ``refusal``: probability that a row is refused. ``accepted`` is called with the others."""

    def __init__(
        self,
        begins: Callable[[], None],
        ends: Callable[[], None],
        accepted: Callable[[str, bytes], None],
        refusal: Callable[[], float],
        dice: random.Random,
    ) -> None:
        self._begins = begins
        self._ends = ends
        self._accepted = accepted
        self._refusal = refusal
        self._dice = dice

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:  # noqa: N803  # boto3's
        return {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE"}}

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's
        self._begins()
        results = [self._put(record["PartitionKey"], record["Data"]) for record in Records]
        self._ends()
        return {"FailedRecordCount": results.count(REFUSED), "Records": results}

    def _put(self, key: str, data: bytes) -> dict[str, str]:
        if self._dice.random() < self._refusal():
            return REFUSED
        self._accepted(key, data)
        return {"SequenceNumber": "1", "ShardId": "shardId-000000000000"}


def no_answer() -> Exception:
    return ConnectTimeoutError(endpoint_url=STREAM)


def throttled() -> Exception:
    return ClientError({"Error": {"Code": "LimitExceededException", "Message": "slow down"}}, "PutRecords")

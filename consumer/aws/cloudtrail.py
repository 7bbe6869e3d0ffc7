"""Calls recorded by CloudTrail. They appear there some minutes after they were made."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any


def recounts(cloudtrail: Any, stream: str, arn: str, since_s: float) -> list[float]:
    """The times of successful UpdateShardCount calls on the stream since a time. Epoch seconds, in order.

    Raises botocore's errors; the caller needs ``cloudtrail:LookupEvents``.
    """
    pages = cloudtrail.get_paginator("lookup_events").paginate(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "UpdateShardCount"}],
        StartTime=datetime.fromtimestamp(since_s, UTC),
    )
    events = (event for page in pages for event in page["Events"])
    return sorted(event["EventTime"].timestamp() for event in events if _is_of(event, stream, arn))


def _is_of(event: Any, stream: str, arn: str) -> bool:
    try:
        said = json.loads(event["CloudTrailEvent"])
    except (KeyError, ValueError):
        return False
    asked = said.get("requestParameters") or {}
    return not said.get("errorCode") and (asked.get("streamName") == stream or asked.get("streamARN") == arn)

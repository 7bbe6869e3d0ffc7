"""Kinesis's metrics: summed where records pass by, put to the local CloudWatch once a minute, off the data path."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from consumer.local.streams import ACCOUNT

NAMESPACE = "AWS/Kinesis"


@dataclass(slots=True)
class Statistic:
    """What CloudWatch wants of many values."""

    unit: str
    count: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.least = min(self.least, value)
        self.most = max(self.most, value)

    def datum(self, stream: str, name: str, at: datetime) -> dict[str, Any]:
        return {
            "MetricName": name,
            "Dimensions": [{"Name": "StreamName", "Value": stream}],
            "Timestamp": at,
            "Unit": self.unit,
            "StatisticValues": {
                "SampleCount": self.count,
                "Sum": self.total,
                "Minimum": self.least,
                "Maximum": self.most,
            },
        }


class Metrics:
    """Sums up in the server's thread; publishes in another, under moto's lock for CloudWatch."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._sums: dict[tuple[str, str], Statistic] = {}

    def _add(self, stream: str, name: str, unit: str, value: float) -> None:
        statistic = self._sums.get((stream, name))
        if statistic is None:
            statistic = self._sums[stream, name] = Statistic(unit)
        statistic.add(value)

    def incoming(self, stream: str, records: int, size: int) -> None:
        self._add(stream, "IncomingRecords", "Count", records)
        self._add(stream, "IncomingBytes", "Bytes", size)

    def write_throttled(self, stream: str, records: int) -> None:
        self._add(stream, "WriteProvisionedThroughputExceeded", "Count", records)

    def read(self, stream: str, age_ms: int) -> None:
        self._add(stream, "GetRecords.IteratorAgeMilliseconds", "Milliseconds", age_ms)

    def read_throttled(self, stream: str) -> None:
        self._add(stream, "ReadProvisionedThroughputExceeded", "Count", 1)

    def take(self, at: datetime) -> list[dict[str, Any]]:
        """What was summed up since the last call, as CloudWatch's data."""
        sums, self._sums = self._sums, {}
        return [statistic.datum(stream, name, at) for (stream, name), statistic in sums.items()]

    async def keep_publishing(self, every_s: float, region: str) -> None:
        while True:
            await asyncio.sleep(every_s)
            if data := self.take(datetime.now(UTC)):
                await asyncio.to_thread(self._publish, data, region)

    def _publish(self, data: list[dict[str, Any]], region: str) -> None:
        from moto.backends import get_backend

        with self._lock:
            get_backend("cloudwatch")[ACCOUNT][region].put_metric_data(NAMESPACE, data)

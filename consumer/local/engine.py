"""Kinesis as a pure function of requests and time: no clock, no network, no threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from consumer.local import about_consumers, about_records, about_shards, about_streams
from consumer.local.account import Account, Answer, Meter, NoMeter
from consumer.local.errors import AwsError
from consumer.local.params import Params

Operation = Callable[[Account, Params, float], Answer]

OPERATIONS: dict[str, Operation] = {
    **about_streams.OPERATIONS,
    **about_shards.OPERATIONS,
    **about_records.OPERATIONS,
    **about_consumers.OPERATIONS,
}


class Engine:
    """The streams of every region. Not thread-safe: one thread makes all calls."""

    def __init__(self, limits: bool = True, meter: Meter | None = None) -> None:
        self.limits = limits
        self.meter = meter or NoMeter()
        self.accounts: dict[str, Account] = {}

    def call(self, operation: str, body: Mapping[str, Any], now_s: float, region: str = "us-east-1") -> Answer:
        """Perform one operation at ``now_s``, in epoch seconds. Times in body and answer are epoch seconds, too.

        :raises AwsError: what AWS would answer instead.
        """
        perform = OPERATIONS.get(operation)
        if perform is None:
            raise AwsError("UnknownOperationException", f"The local Kinesis does not serve {operation}.")
        account = self.accounts.get(region)
        if account is None:
            account = self.accounts[region] = Account(region, self.limits, self.meter)
        account.settle(now_s)
        return perform(account, Params(body), now_s)

"""The streams of one account in one region, and how requests name them. Pure: every time is an argument."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from consumer.local.errors import AwsError, in_use, invalid, not_found, validation
from consumer.local.params import Params
from consumer.local.streams import ACCOUNT, Stream

TOKEN_S = 300.0
"""How long iterators and the tokens of a listing are good for."""

Answer = dict[str, Any]


class Meter(Protocol):
    """Hears what goes in and out of the streams."""

    def incoming(self, stream: str, records: int, size: int) -> None: ...
    def write_throttled(self, stream: str, records: int) -> None: ...
    def read(self, stream: str, age_ms: int) -> None: ...
    def read_throttled(self, stream: str) -> None: ...


class NoMeter:
    """Hears nothing."""

    def incoming(self, stream: str, records: int, size: int) -> None:
        pass

    def write_throttled(self, stream: str, records: int) -> None:
        pass

    def read(self, stream: str, age_ms: int) -> None:
        pass

    def read_throttled(self, stream: str) -> None:
        pass


@dataclass(slots=True)
class Account:
    """``limits``: whether AWS's rates and quotas hold. Sizes of records and calls are bounded either way."""

    region: str
    limits: bool = True
    meter: Meter = field(default_factory=NoMeter)
    streams: dict[str, Stream] = field(default_factory=dict)
    _trimmed_s: float = 0.0

    def settle(self, now_s: float) -> None:
        """Let time pass: streams that were being deleted are gone, and what is past its retention, too."""
        for name in [s.name for s in self.streams.values() if s.status == "DELETING" and now_s >= s.settled_s]:
            del self.streams[name]
        if now_s >= self._trimmed_s + 1:
            self._trimmed_s = now_s
            for stream in self.streams.values():
                stream.trim(now_s)

    def arn(self, name: str) -> str:
        return f"arn:aws:kinesis:{self.region}:{ACCOUNT}:stream/{name}"

    def name_of(self, p: Params) -> str:
        """The stream's name, from StreamName or StreamARN."""
        arn = p.maybe_text("StreamARN")
        if arn is not None:
            name = self.name_in(arn)
            if "StreamName" in p and p.name("StreamName") != name:
                raise invalid("StreamARN and StreamName do not name the same stream.")
            return name
        if "StreamName" not in p:
            raise invalid("Either StreamName or StreamARN must be provided.")
        return p.name("StreamName")

    def name_in(self, arn: str) -> str:
        """The stream's name in an ARN of a stream, or of a consumer of one."""
        parts = arn.split(":", 5)
        path = parts[5].split("/") if len(parts) == 6 else []
        if parts[:3] != ["arn", "aws", "kinesis"] or len(path) < 2 or path[0] != "stream":
            raise validation("StreamARN", arn, "Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*")
        return path[1]

    def by_name(self, name: str) -> Stream:
        stream = self.streams.get(name)
        if stream is None:
            raise not_found(f"Stream {name} under account {ACCOUNT} not found.")
        return stream

    def stream(self, p: Params) -> Stream:
        return self.by_name(self.name_of(p))

    def live(self, p: Params, now_s: float) -> Stream:
        """A stream that records can be put into and read from."""
        stream = self.stream(p)
        if stream.status_at(now_s) not in ("ACTIVE", "UPDATING"):
            raise not_found(f"Stream {stream.name} under account {ACCOUNT} not found.")
        return stream

    def idle(self, p: Params, now_s: float) -> Stream:
        """A stream that is ACTIVE, hence may be changed."""
        stream = self.stream(p)
        if (status := stream.status_at(now_s)) != "ACTIVE":
            raise in_use(
                f"Stream {stream.name} under account {ACCOUNT} not ACTIVE, instead in state {status}. "
                "Only ACTIVE streams can be changed."
            )
        return stream

    def by_arn(self, p: Params, key: str) -> Stream:
        return self.by_name(self.name_in(p.text(key)))


# -- tokens: what a client holds between two calls


def token(values: Answer) -> str:
    return base64.b64encode(orjson.dumps(values)).decode()


def untoken(text: str) -> Answer | None:
    """What a token holds; ``None`` where it is none of ours."""
    try:
        values = orjson.loads(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None
    return values if isinstance(values, dict) else None


def page_token(now_s: float, **values: Any) -> str:
    return token({"at": now_s, **values})


def open_page(text: str, now_s: float) -> Answer:
    """What a NextToken holds. :raises AwsError: it is none of ours, or older than 300 s."""
    values = untoken(text)
    if values is None or not isinstance(values.get("at"), float):
        raise invalid("NextToken is invalid.")
    if now_s > values["at"] + TOKEN_S:
        raise AwsError("ExpiredNextTokenException", "The pagination token has expired. Get a new one with a new call.")
    return values

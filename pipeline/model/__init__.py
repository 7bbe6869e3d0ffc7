"""What a user writes: a class with ``output_schema``, ``load`` and ``predict``. The rest has defaults.

A model class need not inherit from anything here: what it lacks, :class:`Model` supplies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import one_line, text_of

if TYPE_CHECKING:
    import pyarrow as pa


class Reject(Exception):
    """This record, and no other, cannot be enriched: it becomes a dead letter with this reason.

    Raise it from ``decode`` or ``cost``; put it in the list that ``predict`` returns, at the record's place.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(refusal: Reject) -> str:
    """Its reason as text, also of one that was never told any, or was told something else. Never raises."""
    try:
        reason = refusal.reason
    except BaseException:  # noqa: BLE001  # a subclass may do without, or do anything
        return one_line(refusal)
    return text_of(reason) or one_line(refusal)


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a replica knows when it loads: its place on the machine and the options of ``[model.options]``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    replica: int = 0
    device: str = "cpu"
    version: str = ""


class RecordInfo(NamedTuple):
    """Which record an item came from, for a ``predict`` with a parameter ``records``.

    ``record_id`` is the row's column of that name. ``partition_key`` is None if the producer gave none. ``arrived_ms``:
    when Kinesis took it, in milliseconds since 1970. All are empty or 0 for the model's own example.
    """

    record_id: str
    shard_id: str
    partition_key: str | None
    arrived_ms: int

    @property
    def arrived_at(self) -> datetime:
        """``arrived_ms`` as a time with its zone, UTC."""
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=self.arrived_ms)


class Model:
    """The model contract, with its defaults.

    ``output_schema`` names and types the columns that ``predict`` returns. ``pads`` says that a batch costs its
    longest item times its size, as with models that pad.
    """

    output_schema: pa.Schema
    pads: bool = False

    def load(self, context: LoadContext) -> None:
        """Once per replica: weights, device, threads. Raise ``ModelError`` for what the user must mend."""

    def example(self) -> Any:
        """One item to warm up with: each replica predicts it once before the first lease is taken. None: no warm-up."""
        return None

    def decode(self, data: bytes) -> Any:
        """One record's payload to an item. The default reads a JSON object; raise :class:`Reject` to refuse."""
        import orjson

        try:
            item = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Reject(f"payload is not JSON: {error}") from None
        if not isinstance(item, dict):
            raise Reject(f"payload is JSON of type {type(item).__name__}, not an object")
        return item

    def cost(self, item: Any) -> int:
        """What one item costs, in the unit of ``[batch] max_cost``: tokens, pixels, bytes. At least 1."""
        return 1

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        """As many results as items, in their order; each has the columns of ``output_schema``.

        ``predict(self, items, records=())`` is also given a :class:`RecordInfo` for each item, in the same order.
        """
        raise TypeError(f"{type(self).__name__} has no predict(items)")

    def close(self) -> None:
        """When the replica ends in good order, once, after the last ``predict``: flush, hang up. It has 2 s.

        Never count on it: a replica that is killed, or runs out of time or memory, ends without. What it raises is
        logged, and changes nothing.
        """

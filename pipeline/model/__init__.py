"""The model contract: a class with ``output_schema``, ``load`` and ``predict``. Everything else has a default.

A model class need not inherit from anything here: :class:`Model` supplies what it lacks.
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
    """Refuses one record: it becomes a dead letter with this reason, and the other records of its batch are not
    affected.

    Raise it from ``decode`` or ``cost``. In ``predict``, put it into the returned list at the record's place.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(refusal: Reject) -> str:
    """Return the reason as text, also for a subclass that has none or has something else as its reason. Never
    raises.
    """
    try:
        reason = refusal.reason
    except BaseException:  # noqa: BLE001  # a subclass may define reason in any way
        return one_line(refusal)
    return text_of(reason) or one_line(refusal)


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What ``load`` needs to know: the replica's share of the machine, and ``[model.options]``.

    ``options``: ``[model.options]`` as in the configuration. ``threads``: how many threads this replica should use.
    ``replica``: its number, from 0. ``device``: ``cpu``, or ``cuda:N`` with the GPU to use. ``version``:
    ``model.version``, which is written to each row.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    replica: int = 0
    device: str = "cpu"
    version: str = ""


class RecordInfo(NamedTuple):
    """Identifies the record of an item, for a ``predict`` that has a parameter ``records``.

    ``record_id`` equals the column of that name in the row. ``partition_key`` is None if the producer gave none.
    ``arrived_ms`` is the time when Kinesis accepted the record, in milliseconds since 1970. For the model's own
    example, all are empty or 0.
    """

    record_id: str
    shard_id: str
    partition_key: str | None
    arrived_ms: int

    @property
    def arrived_at(self) -> datetime:
        """``arrived_ms`` as a datetime in UTC."""
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=self.arrived_ms)


class Model:
    """The model contract, with its defaults.

    ``output_schema`` has the name and type of each column that ``predict`` returns. ``pads``: a batch costs its longest
    item times its size, as in models that pad.

    Methods are called from one thread of the replica's process, one at a time.
    """

    output_schema: pa.Schema
    pads: bool = False

    def load(self, context: LoadContext) -> None:
        """Load weights and set device and threads. Called once in each replica that predicts, before ``example`` and
        ``predict``.

        Raise ``ModelError`` for what the user has to fix; its text becomes the task's last line.
        """

    def example(self) -> Any:
        """Return one item to warm up with, or None for no warm-up.

        Each replica predicts it twice before the task takes its first lease. The time is used to check the drain time,
        and the item to tell a broken replica from a bad record.
        """
        return None

    def decode(self, data: bytes) -> Any:
        """Turn one record's payload into an item for ``predict``. The default parses a JSON object.

        Raise :class:`Reject` to refuse the record. Any other exception makes it a dead letter, too, with a traceback.
        """
        import orjson

        try:
            item = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Reject(f"payload is not JSON: {error}") from None
        if not isinstance(item, dict):
            raise Reject(f"payload is JSON of type {type(item).__name__}, not an object")
        return item

    def cost(self, item: Any) -> int:
        """Return what one item costs, in the unit of ``[batch] max_cost``: tokens, pixels, bytes. A whole number, at
        least 1.

        A model with its own ``cost`` gets one more replica, which only calls ``decode`` and ``cost`` and never
        ``load``.
        """
        return 1

    def predict(self, items: Sequence[Any]) -> Sequence[Mapping[str, Any] | Reject]:
        """Return one result for each item, in the same order, with the columns of ``output_schema``.

        ``predict(self, items, records=())`` also receives a :class:`RecordInfo` for each item, in the same order.

        If it raises, the batch is split and tried again, until only the records that fail alone are dead letters.
        """
        raise TypeError(f"{type(self).__name__} has no predict(items)")

    def close(self) -> None:
        """Release resources when the replica ends normally. Called once, after the last ``predict``; it has 2 s.

        Do not rely on it: a replica that is killed, or runs out of time or memory, ends without this call. An exception
        from it is logged and has no other effect.
        """

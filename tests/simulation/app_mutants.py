"""Production's parts, each with one promise broken on purpose, which the simulation must detect."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.kcl.checkpoint import CheckpointTracker
from consumer.kcl.protocol import Initialize, ProcessRecords
from consumer.kcl.session import ShardSession
from pipeline.flow.lane import Durability, Lane, Window
from pipeline.record import Position, Record, Run, Shard
from pipeline.stage import Stage
from tests.simulation.app_task import Parts


class _Hasty(CheckpointTracker):
    def due(self, durable: Position | None) -> Position | None:
        return super().due(self.delivered)


class ChecksWhatIsDelivered(ShardSession):
    """Checkpoints what was delivered instead of what is durable."""

    def _open(self, message: Initialize) -> None:
        super()._open(message)
        self._checkpoints.tracker = _Hasty(message.checkpoint)


class _Careless(CheckpointTracker):
    def _whole(self, durable: Position) -> Position | None:
        return durable


class ChecksWithinAggregates(ShardSession):
    """Checkpoints what is durable, also inside an aggregate."""

    def _open(self, message: Initialize) -> None:
        super()._open(message)
        self._checkpoints.tracker = _Careless(message.checkpoint and message.checkpoint.end_of_record)


class KeepsLostLeases(ShardSession):
    """Continues after its lease is lost, and does not say that it is over."""

    def _drop(self, reason: str) -> None:
        return

    def _close(self) -> None:
        return


class EndsWithoutDraining(ShardSession):
    """Reports the end of the shard before all of it is durable."""

    async def _end(self) -> None:
        await self._checkpoint_surely(None)
        self._close()


class ForgetsWhatItRefused(ShardSession):
    """Counts records that it refused while leaving as delivered."""

    async def _admit(self, message: ProcessRecords) -> None:
        await super()._admit(message)
        self._refused = False


class _Unordered(Window):
    def release(self, *, keep_payloads: bool = False) -> Run | None:
        settled = [record for record in self._records if record.outcome is not None]
        if not settled:
            return None
        for record in settled:
            self._records.remove(record)
            self.bytes -= len(record.data)
        return Run(self.shard, settled)


class ReleasesOutOfOrder(Stage):
    """Passes records to the sinks in the order in which they settle."""

    def open(self, shard: Shard, checkpoint: Position | None) -> Lane:
        lane = super().open(shard, checkpoint)
        lane.window = _Unordered(shard)
        return lane


class _AnySink(Durability):
    def _least(self) -> Position | None:
        return max((position for position in self._reached.values() if position is not None), default=None)


class ContentWithAnySink(Stage):
    """Counts records as durable if one of the sinks has them."""

    def open(self, shard: Shard, checkpoint: Position | None) -> Lane:
        lane = super().open(shard, checkpoint)
        lane.durability = _AnySink([sink.name for sink in self._sinks])
        return lane


class AdmitsWithoutBound(Stage):
    def has_room(self, lane: Lane) -> bool:
        return True


class WritesOnForTheLost(Stage):
    """Keeps the lane of a lost lease: its records are still judged and written."""

    def abandon(self, lane: Lane) -> None:
        return


class Skips(Stage):
    """Loses a record of a message now and then."""

    def admit(self, lane: Lane, records: Sequence[Record]) -> None:
        super().admit(lane, records[:-1] if len(records) > 2 else records)


MUTANTS = {
    "checkpoints what is delivered": Parts(session=ChecksWhatIsDelivered),
    "checkpoints within aggregates": Parts(session=ChecksWithinAggregates),
    "keeps lost leases": Parts(session=KeepsLostLeases, stage=WritesOnForTheLost),
    "ends without draining": Parts(session=EndsWithoutDraining),
    "forgets what it refused": Parts(session=ForgetsWhatItRefused),
    "releases out of order": Parts(stage=ReleasesOutOfOrder),
    "content with any sink": Parts(stage=ContentWithAnySink),
    "admits without bound": Parts(stage=AdmitsWithoutBound),
    "writes on for the lost": Parts(stage=WritesOnForTheLost),
    "skips records": Parts(stage=Skips),
    "drops dead letters": Parts(keeps_letters=False),
}

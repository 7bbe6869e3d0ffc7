"""What ``penstock doctor`` examines: a configuration, AWS, and this machine. Each is read once."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.admin import check_model
from consumer.aws.shards import KnownShard, known
from consumer.config.settings import Settings
from consumer.leases.state import ApplicationState, read_state
from pipeline.errors import PenstockError
from pipeline.machine import cores, memory

if TYPE_CHECKING:
    from pipeline.stores.base import ObjectStore


@dataclass(frozen=True, slots=True)
class Machine:
    """The resources of this container. ``memory_mib`` is None if unknown; ``free_bytes`` is of a folder's disk."""

    cores: int = field(default_factory=cores.available)
    memory_mib: int | None = field(default_factory=memory.task_mib)
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free
    now: Callable[[], float] = time.time


@dataclass
class Subject:
    """``tasks``: planned number of tasks; None: as many as report now. ``role``: ARN of the tasks' role.

    ``client`` makes a boto3 client of a service. Attributes that ask AWS raise botocore's errors, each time.
    """

    settings: Settings
    client: Callable[[str], Any]
    store: Callable[[str], ObjectStore]
    machine: Machine = field(default_factory=Machine)
    tasks: int | None = None
    role: str | None = None
    loads_model: bool = True
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The source stream, from DescribeStreamSummary."""
        return self.summary_of(self.settings.stream.name)

    def summary_of(self, stream: str) -> Mapping[str, Any]:
        """Any stream, from DescribeStreamSummary."""
        answer: Mapping[str, Any] = self.client("kinesis").describe_stream_summary(StreamName=stream)
        return dict(answer["StreamDescriptionSummary"], asked_of=answer["ResponseMetadata"])

    @cached_property
    def shards(self) -> Mapping[str, KnownShard]:
        """Every shard that Kinesis lists, by id."""
        return known(self.client("kinesis"), self.settings.stream.name)

    @cached_property
    def state(self) -> ApplicationState:
        """The application's items in KCL's tables."""
        return read_state(self.client("dynamodb"), self.settings.stream.application)

    @cached_property
    def example(self) -> check_model.Loaded | None:
        """The loaded model; None if it was not loaded or does not load."""
        try:
            return self.loaded if self.loads_model else None
        except PenstockError:
            return None

    @property
    def loaded(self) -> check_model.Loaded:
        """The model, loaded in a separate process. Raises ``UserError`` or ``Fatal`` if that fails."""
        if isinstance(self._loaded, PenstockError):
            raise self._loaded
        return self._loaded

    @cached_property
    def _loaded(self) -> check_model.Loaded | PenstockError:
        """One attempt, whatever comes of it: a model that fails may take minutes to do so."""
        if mistake := check_model.missing_module(self.settings):
            return mistake
        try:
            return check_model.load(self.settings)
        except PenstockError as error:
            return error

    @property
    def unfinished(self) -> int:
        """Number of leases still in use: those of open shards, and of parents that are still read."""
        done = {lease.shard_id for lease in self.state.leases if lease.ended}
        return len((set(self.shards) | {lease.shard_id for lease in self.state.leases}) - done)

    @property
    def running(self) -> int | None:
        """Number of tasks: as given, or those that have reported within two minutes; None if none has."""
        if self.tasks is not None:
            return self.tasks
        since = self.machine.now() - 120
        return sum((worker.reported_s or 0) >= since for worker in self.state.workers.values()) or None

"""What Penstock is measured against: stock ``amazon_kclpy`` in its usual form.

Written as a good engineer would write it from AWS's sample (``RecordProcessorBase``, ``KCLProcess``):

- The MultiLangDaemon starts one Python process for each shard, and each loads the model. There is no other place for
  it.
- One batch for each ``processRecords``: all its records are predicted before it is answered (:class:`Way`).
- Threads are divided evenly: one for each process if there are more shards than cores. They sleep while they wait for
  each other, as ours do.
- Results go to Parquet in a local folder, a file for each ``processRecords``; a checkpoint every 60 seconds.
- KCL has the same jars, Java, heap and flags as ours, and reads ahead as it does by default. ``maxRecords`` is at most
  1,000, like ours: KCL's own default of 10,000 would need a larger heap.
- Weights are loaded into the process's own memory, as ``load_state_dict`` does. With read-only mapping, as in
  Penstock's examples, the processes would share them too; only the rest of each process would then differ.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """How a ``processRecords`` is predicted.

    ``model``: see :func:`benchmarks.bare.model_of`. ``calls``: the most records in one call; 0: all of them. ``sorts``:
    by length, not in their order. ``message``: ``maxRecords``. ``turn_s``: seconds of a turn, long enough to measure.
    """

    model: str
    calls: int
    sorts: bool = False
    message: int = 1_000
    turn_s: float = 10.0


USUAL = Way("library", 0, message=256, turn_s=20.0)
"""MiniLM's own library, one call for each ``processRecords``. It sorts by length; twice as many records would hardly
be faster.
"""

SAME_MODEL = Way("minilm", 16)
"""The same class that Penstock runs, with its fastest batch size (``benchmarks/calls.py``)."""

REFERENCE = Way("reference", 4)
"""The 1 GB reference, in calls that use little memory."""

"""What Penstock is measured against: stock ``amazon_kclpy`` in its usual form.

Written as a good engineer would write it from AWS's sample (``RecordProcessorBase``, ``KCLProcess``):

- The MultiLangDaemon starts one Python process per shard, and each loads the model. There is no other place for it.
- One batch per ``processRecords``: all its records are predicted before it is answered (:class:`Way`).
- Threads are shared out fairly: one for each process where there are more shards than cores, and they sleep while they
  wait for each other, as ours do.
- Results go to Parquet in a local folder, a file per ``processRecords``; a checkpoint every 60 seconds.
- KCL has the same jars, Java, heap and flags as ours, and reads ahead as it does by default. ``maxRecords`` is at most
  1,000, as ours is: with KCL's own 10,000 the heap would have to be larger.
- Weights are loaded into the process's own memory, as ``load_state_dict`` does. Who maps them read-only, as
  Penstock's examples do, shares them among the processes as well; then the rest of each process is what is left over.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Way:
    """How a ``processRecords`` is predicted.

    ``model``: see :func:`benchmarks.bare.model_of`. ``calls``: at most so many records at a time; 0: all of them in one
    call. ``sorts``: by length, not as they come. ``message``: ``maxRecords``. ``turn_s``: long enough to measure it in.
    """

    model: str
    calls: int
    sorts: bool = False
    message: int = 1_000
    turn_s: float = 10.0


USUAL = Way("library", 0, message=256, turn_s=20.0)
"""MiniLM's own library, one call per ``processRecords``. It sorts by length; twice the records would hardly be
quicker."""

SAME_MODEL = Way("minilm", 16)
"""The very class that Penstock runs, in the calls that are the quickest for it (``benchmarks/calls.py``)."""

REFERENCE = Way("reference", 4)
"""In calls that take little memory."""

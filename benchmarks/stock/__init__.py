"""What Penstock is measured against: stock ``amazon_kclpy`` in its usual form.

Written as a good engineer would write it from AWS's sample (``RecordProcessorBase``, ``KCLProcess``):

- The MultiLangDaemon starts one Python process per shard, and each loads the model. There is no other place for it.
- One batch per ``processRecords``: all its records are predicted before it is answered, in calls (:data:`USUAL`) that
  are as quick as larger ones on the cores that this was written for (``benchmarks/calls.py``), and take less memory.
- Threads are shared out fairly: one for each process where there are more shards than cores, and they sleep while they
  wait for each other, as ours do.
- Results go to Parquet in a local folder, a file per ``processRecords``; a checkpoint every 60 seconds.
- KCL has the same jars, Java, heap and flags as ours, and reads ahead as it does by default. ``maxRecords`` is 1,000 as
  ours is: with KCL's own 10,000 the heap would have to be larger.
- Weights are loaded into the process's own memory, as ``load_state_dict`` does. Who maps them read-only, as
  Penstock's examples do, shares them among the processes as well; then the rest of each process is what is left over.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calls:
    """How a ``processRecords`` is predicted: at most so many records at a time, as they come or sorted by length."""

    records: int
    sorts: bool = False


USUAL = {"minilm": Calls(16), "reference": Calls(4)}
"""By model."""

"""Where an application begins, fixed once for all its workers and restarts."""

from __future__ import annotations

from datetime import datetime

import orjson

from pipeline.errors import Fatal
from pipeline.sinks.store import ObjectStore


def fix_start(store: ObjectStore, application: str, now: datetime) -> str:
    """The time at which the first worker of ``application`` asked, in ISO 8601 and whole seconds.

    Written once, by a conditional PUT, into a store beside the table; everybody later reads it. Blocks.
    """
    key = f"{application}.json"
    start = now.replace(microsecond=0).isoformat()
    if store.put_new(key, orjson.dumps({"start": start}), {}):
        return start
    body = store.get(key)
    if body is None:
        raise Fatal(f"{key} exists and cannot be found: is something deleting files beside the table?")
    return str(orjson.loads(body)["start"])

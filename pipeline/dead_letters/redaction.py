"""What may be shown of a dead letter where payloads must not be seen: in the log and on the health page.

A reason and a traceback may quote the payload; they appear only in the dead letter. Elsewhere, only the kind, the
exception's type and the place in the code are shown.
"""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline import tracebacks
from pipeline.errors import name_of
from pipeline.record import Dead

SAID = re.compile(r"column '[\w .-]{1,80}'|predict returned an? [\w.]{1,80}")
"""How Penstock's own reasons begin, as far as they depend on the model only."""

HOSTS_OWN = re.compile(r"replica (killed by signal \d{1,3}|exited with code -?\d{1,5}|timed out after [\d.]{1,12} s)")
"""Whole reasons that the host wrote itself. Others of these kinds may quote the payload, such as a lost device's
message.
"""

MOST = 120

UNSAFE = re.compile(r"[^\w .:<>=,-]")


def label(dead: Dead) -> str:
    """Return the kind and what may be shown of the reason. The number of labels is small, whatever the payloads are."""
    if dead.where:
        return f"{dead.kind} ({_plain(dead.where)})"
    if HOSTS_OWN.fullmatch(dead.reason):
        return f"{dead.kind} ({dead.reason})"
    said = SAID.match(dead.reason)
    return f"{dead.kind} ({said.group()})" if said else dead.kind


def where(error: BaseException) -> str:
    """Return an exception's type and where it was raised: the innermost place in the model's own code, if there is one.

    Never raises.
    """
    kind, place = _plain(name_of(type(error))), _plain(tracebacks.place(error))
    return f"{kind} at {place}" if place else kind


@lru_cache(maxsize=256)
def _plain(text: str) -> str:
    return UNSAFE.sub("?", text[:MOST])

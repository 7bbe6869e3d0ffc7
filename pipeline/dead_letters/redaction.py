"""What may be shown of a dead letter where payloads must not be seen: in the log and on the health page.

A reason and a traceback may quote the payload; they appear only in the dead letter. Elsewhere, only the kind, the
exception's type and the place in the code are shown.
"""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path

from pipeline.errors import name_of
from pipeline.record import Dead

OURS = str(Path(__file__).parents[1])
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
FOREIGN = (OURS, *LIBRARIES)
"""Folders of code that is not the model's own."""

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
    kind = _plain(name_of(type(error)))
    try:
        return f"{kind}{_place(error)}"
    except BaseException:  # noqa: BLE001  # source lines come from import loaders, which may contain any code
        return kind


def _place(error: BaseException) -> str:
    """Without ``extract_tb``, which looks for the source of every frame on the disk, for every bad record."""
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not places:
        return ""
    own = [place for place in places if not place[0].co_filename.startswith(FOREIGN)]
    code, line = (own or places)[-1]
    return f" at {_plain(os.path.basename(code.co_filename))}:{line} in {_plain(code.co_name)}"


@lru_cache(maxsize=256)
def _plain(text: str) -> str:
    return UNSAFE.sub("?", text[:MOST])

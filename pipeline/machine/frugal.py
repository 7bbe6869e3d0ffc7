"""What a command does first, so that its start and its end need less of the processor: a quarter less with our imports.

Standard library only.
"""

from __future__ import annotations

import atexit
import gc
import os
from functools import cache

THRESHOLDS = (50_000, 20, 20)
"""How often Python looks for garbage. A start makes hundreds of thousands of objects, nearly all of which stay."""

USUAL_THRESHOLDS = gc.get_threshold()
"""For a process that lives long."""

BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@cache
def begin() -> None:
    """Look for garbage rarely, and not at all at the end; keep numpy from starting a thread for each core.

    Only models multiply matrices, and replicas get their own number of threads.
    """
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)  # the interpreter's last look would pass through all that was imported
    os.environ.setdefault(BLAS_THREADS, "1")

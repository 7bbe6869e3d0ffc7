"""Processes of tests that begin with everything imported: forks of one server."""

from __future__ import annotations

import multiprocessing

PRELOADED = ["tests.support.dying_task", "tests.support.lone_task", "tests.support.crashing_task"]
"""Modules of the processes' functions. A process of another module would import all that it needs by itself."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)

"""A Kinesis consumer on the Amazon KCL: leases, sessions, checkpoints, operations.

Start reading at :mod:`consumer.app`.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec


def _own_modules_first() -> None:
    """Make sure that a user's files never replace Penstock's modules, whatever their names and wherever Python looks
    first.

    ``python -m consumer.cli`` looks in the working directory first, which may contain a model's ``pipeline.py`` or
    ``click.py``, and ``PYTHONPATH`` may name such a folder. (A ``consumer.py`` there is imported instead of this
    package, before any of its code runs: use ``penstock``, or ``python -P``.)
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    is_program = sys.argv[:1] == ["-m"]  # what it is while Python looks for the program
    if is_program and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()] != [home]:
        del sys.path[0]
    if "pipeline" not in sys.modules and (spec := PathFinder.find_spec("pipeline", [home])) and spec.loader:
        sys.modules["pipeline"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["pipeline"])


_own_modules_first()

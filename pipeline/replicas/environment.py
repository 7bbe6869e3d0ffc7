"""The command and the environment of a replica: its search path, the threads and allocators of its libraries, and none
of the task's credentials.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.model_process.assignment import Assignment

PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); import pipeline; "
    "sys.path[:] = sys.argv[2].split(':'); from pipeline.model_process.keeper import main; main()"
)
"""Imports our modules from the host's own folder, then restores its search path: host and replica have one version."""

HOME = str(Path(__file__).resolve().parents[2])

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
"""Read by the libraries when they load, so they must be set before the interpreter starts."""

WAIT_POLICY = "passive"
"""How OpenMP's threads wait for each other, unless OMP_WAIT_POLICY is set. By default they spin, which is slow as
soon as another process, such as the JVM, needs a core. Measured with MiniLM on two cores: spinning, 205 records/s
alone and 17 to 60 next to busy processes; sleeping, 184 and 62 to 139.
"""

ARROW_POOL = "system"
"""Where pyarrow takes its memory, unless ARROW_DEFAULT_MEMORY_POOL is set. Its own default reserves a GiB at a time,
which would count against the replica's memory limit.
"""

AWS_KEPT = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_EXECUTION_ENV", "AWS_DEFAULTS_MODE"})
"""Variables of AWS that a model without credentials keeps, besides endpoints. All others that start with ``AWS_``
identify the task, or tell where its credentials are: keys, tokens, roles, profiles, container addresses.
"""

ENDPOINTS = "AWS_ENDPOINT_URL"
"""``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_<SERVICE>``."""

NO_CREDENTIALS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_CONFIG_FILE": "/dev/null",
}
"""What makes AWS's own libraries look neither at the instance's metadata nor into ``~/.aws``."""

BOTO2 = frozenset({"BOTO_CONFIG", "BOTO_PATH"})


def command(search_path: Sequence[str], descriptor: int) -> list[str]:
    """Return the command of a replica that talks with the host over ``descriptor``.

    The model's folders (``search_path``) are searched later (:mod:`pipeline.model.user_modules`): no file there can
    replace one of Python's own modules.
    """
    later = {os.path.abspath(folder) for folder in search_path}
    folders = [folder for folder in map(os.path.abspath, sys.path) if folder not in later]
    given = [HOME, ":".join(folders), str(descriptor), str(os.getpid())]
    return [sys.executable, "-P", "-X", "faulthandler", "-c", PROGRAM, *given]


def environment(given: Mapping[str, str], assignment: Assignment) -> dict[str, str]:
    """Return the environment of a replica, made from the host's. Credentials are included only if the assignment
    says so.
    """
    kept = dict(given) if assignment.aws_credentials else without_credentials(given)
    defaults = {"OMP_WAIT_POLICY": WAIT_POLICY, "ARROW_DEFAULT_MEMORY_POOL": ARROW_POOL}
    fixed = {**dict.fromkeys(THREAD_VARIABLES, str(assignment.threads)), "PYTHONUNBUFFERED": "1"}
    return {**defaults, **kept, **fixed}


def without_credentials(given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which AWS's libraries find no credentials in any place that its documentation names."""
    kept = {name: value for name, value in given.items() if _is_harmless(name.upper())}
    return {**kept, **NO_CREDENTIALS}


def _is_harmless(name: str) -> bool:
    if name in BOTO2:
        return False
    return not name.startswith("AWS_") or name in AWS_KEPT or name.startswith(ENDPOINTS)

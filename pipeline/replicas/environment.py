"""The environment of a replica: threads and allocators of its libraries, and no credentials of the task's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.model_process.worker import Assignment

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
"""How OpenMP's threads wait for each other, unless OMP_WAIT_POLICY says otherwise. By default they spin, which costs
everything once anything else wants a core, as the JVM does. Measured with MiniLM on two cores: spinning, 205 records/s
alone and 17 to 60 beside busy processes; sleeping, 184 and 62 to 139."""

ARROW_POOL = "system"
"""Where pyarrow takes its memory, unless ARROW_DEFAULT_MEMORY_POOL says otherwise. Its own default reserves a GiB at a
time, which would count as taken where the replica's memory is limited."""

AWS_KEPT = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_EXECUTION_ENV", "AWS_DEFAULTS_MODE"})
"""What a model may know of AWS without credentials, besides endpoints. Everything else that begins with ``AWS_`` says
who one is, or where that can be asked: keys, tokens, roles, profiles, addresses that containers get them from."""

ENDPOINTS = "AWS_ENDPOINT_URL"
"""``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_<SERVICE>``."""

NO_CREDENTIALS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_CONFIG_FILE": "/dev/null",
}
"""What makes AWS's own libraries look neither at the instance's metadata nor into ``~/.aws``."""

BOTO2 = frozenset({"BOTO_CONFIG", "BOTO_PATH"})


def environment(given: Mapping[str, str], assignment: Assignment) -> dict[str, str]:
    """For a replica of this assignment, from the host's own. Credentials only if it is assigned them."""
    kept = dict(given) if assignment.aws_credentials else without_credentials(given)
    defaults = {"OMP_WAIT_POLICY": WAIT_POLICY, "ARROW_DEFAULT_MEMORY_POOL": ARROW_POOL}
    fixed = {**dict.fromkeys(THREAD_VARIABLES, str(assignment.threads)), "PYTHONUNBUFFERED": "1"}
    return {**defaults, **kept, **fixed}


def without_credentials(given: Mapping[str, str]) -> dict[str, str]:
    """An environment in which AWS's libraries find no credentials by the ways of its documentation."""
    kept = {name: value for name, value in given.items() if _is_harmless(name.upper())}
    return {**kept, **NO_CREDENTIALS}


def _is_harmless(name: str) -> bool:
    if name in BOTO2:
        return False
    return not name.startswith("AWS_") or name in AWS_KEPT or name.startswith(ENDPOINTS)

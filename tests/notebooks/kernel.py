"""A kernel for notebooks that talks over sockets in a folder, and not over the network.

Jupyter's packages are imported where they are used: it takes half a second, and this module is imported with all tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
LONGEST_S = 120
"""Maximum seconds for one cell."""

WAIT_POLICY = "passive"
"""How torch's threads wait for each other, as in replicas: next to other processes, those that spin are slow."""


@contextmanager
def kernel(folder: Path) -> Iterator[KernelManager]:
    """A running kernel with this current folder, and without the user's settings."""
    from jupyter_client.manager import KernelManager

    with tempfile.TemporaryDirectory(prefix="kernel-") as own:  # a socket's path may have about a hundred characters
        manager = KernelManager(transport="ipc", connection_file=str(Path(own, "kernel.json")))
        before = os.environ.get("PYTHONPATH")
        path = os.pathsep.join([str(ROOT), *([before] if before else [])])
        ours = {"PYTHONPATH": path, "IPYTHONDIR": own, "OMP_WAIT_POLICY": WAIT_POLICY}
        manager.start_kernel(cwd=str(folder), env={**os.environ, **ours})
        try:
            yield manager
        finally:
            manager.shutdown_kernel(now=True)


def read(name: str) -> Any:
    """Read one of our notebooks by its file's name."""
    import nbformat

    return nbformat.read(NOTEBOOKS / name, as_version=4)


def run(notebook: Any, manager: KernelManager, folder: Path) -> None:
    """Run all cells, and put their outputs into the notebook.

    :raises nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    client = NotebookClient(notebook, km=manager, timeout=LONGEST_S, resources={"metadata": {"path": str(folder)}})
    client.execute(cleanup_kc=False)
    if client.kc is not None:
        client.kc.stop_channels()

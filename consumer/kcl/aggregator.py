"""Penstock's class that KCL loads in place of its own ``AggregatorUtil``, so that it delivers aggregates whole.

The source beside the jar says how it is compiled; only that needs a Java compiler. It has the methods that KCL 3.1.3
and KCL 3.5.1 call. It is in a jar because the JVM shares classes between runs (``-XX:SharedArchiveFile``) only if its
class path has no folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.errors import UserError

FOLDER = Path(__file__).parent / "classes"
NAME = "software/amazon/kinesis/retrieval/AggregatorUtil"
JAR, SOURCE = FOLDER / "penstock-kcl.jar", FOLDER / "AggregatorUtil.java"
SHA256 = {
    JAR: "f9315207028e8bf0a869e7c88f943ad3aebd163bf78e71e89a25a555d8758b87",
    SOURCE: "269fff6561e882ba62d2cd5ad5017284d53dc8a2de1b06be294970836a17e9eb",
}
"""Checksums of the jar and of the source that it was compiled from."""

SERVES = "penstock: KCL hands aggregates over whole"
"""The line that the class writes to the JVM's output when it is loaded, before the first shard is read."""


def jar() -> Path:
    """Return the jar, which must be before KCL's jars on the class path.

    :raises UserError: if it is missing or has been changed.
    """
    try:
        found = hashlib.sha256(JAR.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"The installation of Penstock is incomplete: {error}. Install it again") from None
    if found != SHA256[JAR]:
        raise UserError(f"{JAR} has been changed since the installation. Install Penstock again")
    return JAR

"""The class of ours that KCL loads in place of its own ``AggregatorUtil``, so that it hands aggregates over whole.

Its source lies beside it, and says how it is compiled; a Java compiler is needed for that alone. The methods are those
that KCL 3.1.3 and KCL 3.5.1 call. It is in a jar since the JVM shares classes between runs
(``-XX:SharedArchiveFile``) only where nothing on its class path is a folder.
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
"""Of the class in its jar, and of the source that it was compiled from."""

SERVES = "penstock: KCL hands aggregates over whole"
"""What the class writes to the JVM's output when it is loaded, which is before the first shard is read."""


def jar() -> Path:
    """What belongs in front of KCL's jars on the class path.

    :raises UserError: it is missing, or is not the one that Penstock came with.
    """
    try:
        found = hashlib.sha256(JAR.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"Penstock is not installed whole: {error}. Install it again") from None
    if found != SHA256[JAR]:
        raise UserError(f"{JAR} is not the one that Penstock came with. Install it again")
    return JAR

"""The class of ours that KCL loads in place of its own ``AggregatorUtil``, so that it hands aggregates over whole.

Its source lies beside it, and says how it is compiled; a Java compiler is needed for that alone. The methods are those
that KCL 3.1.3 and KCL 3.5.1 call.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.errors import UserError

FOLDER = Path(__file__).parent / "classes"
"""In front of KCL's jars on the class path."""

NAME = "software/amazon/kinesis/retrieval/AggregatorUtil"
CLASS, SOURCE = FOLDER / f"{NAME}.class", FOLDER / f"{NAME}.java"
SHA256 = {
    CLASS: "86577a7034a1562d0714626c95e6be3796f04f952433fe4977fad4d98a3c2f25",
    SOURCE: "269fff6561e882ba62d2cd5ad5017284d53dc8a2de1b06be294970836a17e9eb",
}
"""Of the class, and of the source that it was compiled from."""

SERVES = "penstock: KCL hands aggregates over whole"
"""What the class writes to the JVM's output when it is loaded, which is before the first shard is read."""


def class_folder() -> Path:
    """What belongs in front of the jars.

    :raises UserError: the class is missing, or is not the one that Penstock came with.
    """
    try:
        found = hashlib.sha256(CLASS.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"Penstock is not installed whole: {error}. Install it again") from None
    if found != SHA256[CLASS]:
        raise UserError(f"{CLASS} is not the class that Penstock came with. Install it again")
    return FOLDER

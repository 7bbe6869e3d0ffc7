"""Imported first by modules with models: their replicas have no pandas, as in the image.

If pandas is there, pyarrow imports it, which takes longer than all else of a replica's start.
"""

from __future__ import annotations

import sys
from pathlib import Path

if "pytest" not in sys.modules:
    sys.path.insert(0, str(Path(__file__).with_name("lean")))

"""What all sections of the settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MOST_MIB = 16 * 1024**2
"""Maximum of memory sizes: 16 TiB, more than any machine that is offered."""


LEAST = 0.001
"""Minimum of durations and of the sizes of files: smaller numbers are slips, and some are 0 after arithmetic."""


class Section(BaseModel):
    """Strict types: ``"64"`` is not a number and ``true`` is not a count. A float accepts a whole number.

    Every number has a maximum: KCL, the operating system and time arithmetic overflow far below 64 bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

"""Which tags may be put on a stream or on a consumer."""

from __future__ import annotations

from consumer.local.kinesis.errors import invalid, limit_exceeded
from consumer.local.kinesis.limits import TAGS_PER_STREAM


def require_tags(have: dict[str, str], more: dict[str, str], what: str) -> dict[str, str]:
    """``have`` and ``more`` together, if that is allowed."""
    for key in more:
        if key.lower().startswith("aws:"):
            raise invalid(f"Failed to add tags to {what}: a tag's key must not start with 'aws:'.")
    together = {**have, **more}
    if len(together) > TAGS_PER_STREAM:
        raise limit_exceeded(f"Failed to add tags to {what}: it cannot have more than {TAGS_PER_STREAM} tags.")
    return together

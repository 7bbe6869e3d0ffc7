"""Which tags a stream or a consumer may have (API reference of AddTagsToStream)."""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import category

from consumer.local.kinesis.errors import invalid, limit_exceeded
from consumer.local.kinesis.limits import TAGS_PER_STREAM

SYMBOLS = frozenset("_.:/=+-@")


def require_tags(have: dict[str, str], more: dict[str, str], what: str) -> dict[str, str]:
    """Return ``have`` and ``more`` together. ``what`` names the stream or consumer in messages.

    :raises KinesisError: if a tag is not allowed, or there are too many.
    """
    require_characters((*more.keys(), *more.values()), f"add tags to {what}")
    for key in more:
        if key.lower().startswith("aws:"):
            raise invalid(f"Failed to add tags to {what}: a tag's key must not start with 'aws:'.")
    together = {**have, **more}
    if len(together) > TAGS_PER_STREAM:
        raise limit_exceeded(f"Failed to add tags to {what}: it cannot have more than {TAGS_PER_STREAM} tags.")
    return together


def require_characters(texts: Iterable[str], what: str) -> None:
    """Check the characters of keys and values. ``what`` names the action in the message.

    :raises KinesisError: ``InvalidArgumentException`` if one is not allowed.
    """
    if not all(_may_be_in_a_tag(character) for text in texts for character in text):
        raise invalid(
            f"Failed to {what} because some tags contained illegal characters. "
            "The allowed characters are Unicode letters, digits, spaces, and _ . : / = + - @"
        )


def _may_be_in_a_tag(character: str) -> bool:
    """Letters, numbers, separators and some symbols. In Unicode, tabs and line feeds are not separators."""
    return character in SYMBOLS or category(character)[0] in "LNZ"

"""What may be the URL of a store: ``s3://bucket/prefix``, or the path of a folder.

The rule lists what is allowed. A mistyped S3 URL is refused for that reason: it must not become the name of a folder,
since rows would be written to the disk of a container and lost with it. Settings, command line and
:func:`~pipeline.stores.open_store` apply this rule and no other.
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import NamedTuple

S3 = "s3://"

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
"""S3's rules for names of buckets; a name like an IPv4 address is refused in addition."""
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_PUNCTUATION = frozenset("-._=+@,()'!&#[] ")
"""Allowed besides letters and digits of any script: it has no meaning in URLs, shells and templates."""
_SLASHES_LOST = re.compile(r"(s3[an]?|gs|https?|file|hdfs|abfss?)?//|[^/]*\.amazonaws\.com(/|$)", re.IGNORECASE)
"""The beginning of a URL without its colon or its scheme, or the host of S3."""
_DEVICES = ("/dev/", "/proc/", "/sys/")

_S3_OR_FOLDER = "Write s3://bucket/prefix, or the path of a folder"


class UrlMistake(NamedTuple):
    """Why a text is not the URL of a store, as the rest of a sentence that begins with the text; and what to do."""

    problem: str
    fix: str


def mistake_in(url: str) -> UrlMistake | None:
    """Return what is wrong with the URL, or None. Reads nothing but the symbolic links on the way to a folder."""
    return _on_s3(url.removeprefix(S3)) if url.startswith(S3) else _folder(url)


def _on_s3(rest: str) -> UrlMistake | None:
    bucket, *parts = rest.removesuffix("/").split("/")
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        how = "Write s3://bucket/prefix; a bucket's name has 3 to 63 of a-z, 0-9, '-' and single '.'"
        return UrlMistake("has no valid bucket name", how)
    if {"", ".", ".."} & set(parts):
        why = "Remove it: S3 allows such keys, but readers resolve them to other keys"
        return UrlMistake("contains an empty part, '.' or '..'", why)
    return _characters(parts)


def _folder(path: str) -> UrlMistake | None:
    if not path or "://" in path or _SLASHES_LOST.match(path):
        return UrlMistake("is not an S3 URL or a folder", _S3_OR_FOLDER)
    parts = path.removeprefix("/").removesuffix("/").split("/")
    if mistake := _characters(parts):
        return mistake
    if parts[-1] in ("", ".", ".."):
        return UrlMistake("does not name a folder", "Write its name: Penstock stores files of its own beside it")
    if "" in parts:
        return UrlMistake("contains an empty part", "Remove it")
    if f"{os.path.realpath(path)}/".startswith(_DEVICES):
        return UrlMistake("is a place of the system, which cannot hold files", _S3_OR_FOLDER)
    return None


def _characters(parts: list[str]) -> UrlMistake | None:
    """A colon is not allowed: ``s3:bucket/prefix`` and ``arn:aws:s3:::bucket`` would be folders."""
    if any(part.startswith("~") or "$" in part for part in parts):
        return UrlMistake("contains ~ or $, which Penstock does not replace", "Write the whole path")
    if any(part != part.strip() for part in parts):
        return UrlMistake("has white space at the end of a name", "Remove it")
    if (wrong := next((each for part in parts for each in part if not _is_allowed(each)), None)) is not None:
        allowed = (
            f"{_S3_OR_FOLDER}, with letters, digits and - . _ = + @ , ( ) ' ! & # [ ] only, or spaces inside names"
        )
        return UrlMistake(f"contains {wrong!a}", allowed)
    return None


def _is_allowed(character: str) -> bool:
    return character.isalnum() or character in _PUNCTUATION or unicodedata.category(character)[0] == "M"

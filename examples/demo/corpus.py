"""The docstrings of Python's standard library: real text that is on every machine with Python.

Source files are parsed, never imported, so none of their code runs.
"""

from __future__ import annotations

import ast
import json
import os
import random
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError

NOT_THE_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})

PARTITION_KEY_CHARS = 256
"""The longest partition key that Kinesis accepts (API model: PartitionKey, 1 to 256 characters)."""

_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Docstring(NamedTuple):
    """A docstring and where it is. ``name`` is the qualified name within ``module``; empty for the module's own
    docstring.
    """

    module: str
    name: str
    text: str


def docstrings(root: Path | None = None) -> Iterator[Docstring]:
    """Yield every docstring below ``root`` (default: the standard library), sorted by path, then in the file's
    order.
    """
    root = root or library()
    for path in sources(root):
        yield from _docstrings_of(path, root)


def records(n: int, seed: int = 0, root: Path | None = None) -> list[tuple[bytes, str]]:
    """Return ``n`` records as (JSON object of module, name and text; partition key). Equal seeds give equal records.

    Only as many files are parsed as needed, in an order that the seed decides. If the library has fewer than ``n``
    docstrings, they are repeated with names ending in ``#2``, ``#3`` …, so no two records are equal.

    :raises UserError: there are no docstrings.
    """
    drawn = random.Random(seed)
    root = root or library()
    paths = sources(root)
    drawn.shuffle(paths)
    found = list(islice((each for path in paths for each in _docstrings_of(path, root)), n))
    if n and not found:
        raise UserError(f"{root}: no docstrings. Use a Python whose standard library is installed with its sources")
    drawn.shuffle(found)
    return [_record(found[i % len(found)], i // len(found) + 1) for i in range(n)]


def broken(n: int) -> list[tuple[bytes, str]]:
    """Return ``n`` records that MiniLM refuses, for as many dead letters: cut off, without a text, or not an object."""
    ways = (
        lambda name: f'{{"module":"broken","name":"{name}","te',
        lambda name: f'{{"module":"broken","name":"{name}"}}',
        lambda name: f'{{"module":"broken","name":"{name}","text":null}}',
        lambda name: f'["broken","{name}"]',
    )
    names = [f"record-{number}" for number in range(1, n + 1)]
    return [(ways[i % len(ways)](name).encode(), f"broken:{name}") for i, name in enumerate(names)]


def mixed(sound: list[tuple[bytes, str]], bad: list[tuple[bytes, str]], seed: int = 0) -> list[tuple[bytes, str]]:
    """Return the sound records in their order, with the bad ones at places that the seed decides."""
    drawn, among = random.Random(seed), list(sound)
    for record in bad:
        among.insert(drawn.randint(0, len(among)), record)
    return among


def library() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def sources(root: Path) -> list[Path]:
    """Return the library's own source files below ``root``, sorted, without its tests and installed packages."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = set(folders) - NOT_THE_LIBRARY  # installed packages may be a hundred times as many
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def _docstrings_of(path: Path, root: Path) -> Iterator[Docstring]:
    """Yield nothing for a file that does not parse: the library contains some that are wrong on purpose."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    seen: set[str] = set()
    for name, text in _walk(tree, ""):
        # Setters and overloads have the name of the first definition, which has the better docstring.
        if name not in seen and _is_unicode(text):
            seen.add(name)
            yield Docstring(module, name, text)


def _walk(node: ast.Module | _Documented, name: str) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text and text.strip():
        yield name, text
    for child in node.body:
        if isinstance(child, _Documented):
            yield from _walk(child, f"{name}.{child.name}" if name else child.name)


def _is_unicode(text: str) -> bool:
    """Return False for lone surrogates, which JSON in UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _record(docstring: Docstring, turn: int) -> tuple[bytes, str]:
    name = docstring.name if turn == 1 else f"{docstring.name}#{turn}"
    body = {"module": docstring.module, "name": name, "text": docstring.text}
    key = f"{docstring.module}:{name}"[:PARTITION_KEY_CHARS]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), key

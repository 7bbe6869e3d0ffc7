"""Where a setting comes from: the file, the environment, or a default.

``PENSTOCK_<SECTION>__<KEY>`` overrides a key, ``PENSTOCK_SINK__<N>__<KEY>`` a key of sink N (from 0), and
``PENSTOCK_MODEL__OPTIONS__<NAME>`` an entry of a table.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from pipeline.errors import ConfigError

PREFIX = "PENSTOCK_"
_OF_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
"""Kubernetes sets such variables for a service that is called ``penstock-log``, for example."""
Source = str
"""``file``, or the name of an environment variable."""


def override(
    raw: Mapping[str, Any], env: Mapping[str, str], tree: type[BaseModel]
) -> tuple[dict[str, Any], dict[str, str], list[ConfigError]]:
    """Apply the variables of ``env`` to a copy of ``raw``.

    Returns the result, the variable of each key that was set, and a mistake for each variable that names no place in
    ``tree``.
    """
    given: dict[str, Any] = copy.deepcopy(dict(raw))
    from_env: dict[str, str] = {}
    lost: list[ConfigError] = []
    for variable in sorted(env):
        parts = variable.removeprefix(PREFIX).split("__")
        if not variable.startswith(PREFIX) or len(parts) == 1 or not all(parts):
            lost += _almost(variable, env[variable], tree)
            continue
        path = _path(parts, given)
        from_env[key := ".".join(path)] = variable
        if not _set(given, path, env[variable] if _is_text(path, tree) else _value(env[variable])):
            lost.append(ConfigError(key, "there is no such key", f"Unset {variable}, or rename it"))
    return given, from_env, lost


def _almost(variable: str, value: str, tree: type[BaseModel]) -> list[ConfigError]:
    """The mistake of a variable that begins like one of a section but is of another form. Variables that begin with
    ``PENSTOCK_`` and name no section are not ours.
    """
    name = variable.upper()
    section = next((each for each in tree.model_fields if _begins(name, PREFIX + each.upper())), None)
    if section is None or _OF_KUBERNETES.search(variable) or value.startswith(("tcp://", "udp://", "sctp://")):
        return []
    key = name.removeprefix(PREFIX + section.upper()).strip("_")
    meant = f"{PREFIX}{section.upper()}__{key or '<KEY>'}"
    if section == "sink":
        place, _, rest = key.partition("_") if key[:1].isdigit() else ("0", "", key)
        meant = f"{PREFIX}SINK__{place}__{rest.strip('_') or '<KEY>'}"
    return [ConfigError(variable, "is not of the form PENSTOCK_<SECTION>__<KEY>", f"Write {meant}, or unset it")]


def _begins(name: str, section: str) -> bool:
    return name == section or name.startswith(f"{section}_")


def variable_of(key: str) -> str:
    """Return the variable that sets the key: ``PENSTOCK_BATCH__MAX_RECORDS`` for ``batch.max_records``."""
    return PREFIX + key.upper().replace(".", "__")


def sources_of(given: Mapping[str, Any], from_env: Mapping[str, str]) -> dict[str, Source]:
    """Return the source of every key that is set. A variable that sets a table is the source of all its entries."""
    return {key: _setter(key, from_env) for key, _ in leaves(given)}


def _setter(key: str, from_env: Mapping[str, str]) -> Source:
    while key:
        if key in from_env:
            return from_env[key]
        key = key.rpartition(".")[0]
    return "file"


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(key, value)`` of each value that is not a table or a list of tables. An empty table is a value."""
    items: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping) and (value or not prefix):
        items = iter(value.items())
    elif isinstance(value, list | tuple) and any(isinstance(entry, Mapping) for entry in value):
        items = iter(enumerate(value))
    if items is None:
        yield prefix, value
        return
    for key, entry in items:
        yield from leaves(entry, f"{prefix}.{key}" if prefix else str(key))


def _path(parts: list[str], given: Mapping[str, Any]) -> list[str]:
    """The key that the parts of a variable name. Keys of the file match in any case, because variables have no case."""
    path: list[str] = []
    here: Any = given
    for part in parts:
        names = [str(name) for name in here] if isinstance(here, Mapping) else []
        name = next((name for name in names if name.upper() == part), part.lower())
        here = here.get(name) if isinstance(here, Mapping) else _entry(here, name)
        path.append(name)
    return path


def _entry(tables: Any, place: str) -> Any:
    return tables[int(place)] if isinstance(tables, list) and _is_place(place) and int(place) < len(tables) else None


def _is_place(part: str) -> bool:
    """Whether it is the number of a sink: 0, 1, 2, … in these digits and without leading zeros."""
    return re.fullmatch(r"0|[1-9][0-9]{0,5}", part) is not None


def _is_text(path: list[str], tree: type[BaseModel]) -> bool:
    """Whether the key is a string, so that ``123`` means ``"123"``."""
    if path[0] == "sink" and len(path) == 3:
        return path[2] in ("type", "url", "stream")
    section = tree.model_fields.get(path[0])
    fields = getattr(section.annotation, "model_fields", {}) if section else {}
    field = fields.get(path[1]) if len(path) == 2 else None
    return field is not None and field.annotation is str


def _value(text: str) -> Any:
    """Parse the text as a TOML value; text that is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError, KeyError):  # TOML's errors and Python's limit of digits are ValueErrors
        return text


def _set(given: dict[str, Any], path: list[str], value: Any) -> bool:
    """Set the value at the path; a sink may be appended. Returns False if the path leads through a plain value."""
    here: Any = given
    for part, following in pairwise(path):
        if isinstance(here, list):
            if not _is_place(part) or int(part) > len(here):
                return False
            if int(part) == len(here):
                here.append({})
            here = here[int(part)]
        elif isinstance(here, dict):
            here = here.setdefault(part, [] if part == "sink" and _is_place(following) else {})
    if not isinstance(here, dict):
        return False
    here[path[-1]] = value
    return True

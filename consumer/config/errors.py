"""Mistakes in a configuration. Each names the key, the value and the fix; all are reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from consumer.config.sources import variable_of
from pipeline.errors import ConfigError, UserErrors, counted

LIMITS = {
    "greater_than": ("gt", "is too small", "more than"),
    "greater_than_equal": ("ge", "is too small", "at least"),
    "less_than": ("lt", "is too large", "less than"),
    "less_than_equal": ("le", "is too large", "at most"),
}
KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "string_type": "a string in quotes",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


DEEPEST = 32
"""Maximum nesting of tables and lists. Deeper values would exceed Python's recursion limit in later checks."""

LARGEST = 2**63
"""Whole numbers in TOML are signed and have 64 bits."""

SHOWN = 80
"""Characters of a value or a key that a message shows."""


RENAMED = {
    "model.carry": "model.passthrough",
    "model.patience_s": "model.give_up_after_s",
    "sink.patience_s": "sink.give_up_after_s",
    "dead_letter.patience_s": "dead_letter.give_up_after_s",
    "batch.learn": "batch.adaptive",
    "batch.look_ahead": "batch.bucket_records",
    "window": "in_flight",
    "window.records": "in_flight.records_per_shard",
    "window.mib": "in_flight.total_mib",
    "drain.batch_s": "drain.longest_batch_s",
}
"""Settings and sections of earlier versions, with their current names. The number of a sink is left out."""

REMOVED = {
    "sink.generation": (
        "was removed: each url is one table",
        "Write to a new url. To write the whole stream again, use a new stream.application too",
    )
}
"""Settings of earlier versions that were removed, each with its problem and fix."""


class ConfigErrors(UserErrors):
    """Every mistake in a configuration. The text has one line for each, in the order of the settings tree.

    ``where`` is the file; ``from_env`` maps each key that the environment sets to its variable.
    """

    def __init__(self, where: str, errors: Sequence[ConfigError], from_env: Mapping[str, str]) -> None:
        lines = [f"{error}{_origin(error.key, from_env)}" for error in errors]
        count = "one mistake" if len(errors) == 1 else counted(len(errors), "mistake")
        super().__init__(f"{where}: {count}", lines)
        self.where = where
        self.errors = tuple(errors)


def _origin(key: str, from_env: Mapping[str, str]) -> str:
    """The variable that set the key, or an entry below it. For a former key, also the variable of today."""
    variable = from_env.get(key) or next((name for entry, name in from_env.items() if entry.startswith(f"{key}.")), "")
    if not variable:
        return ""
    if (today := _today(key)) is None:
        return f" (set by {variable})"
    return f" (set by {variable}; set {variable.replace(variable_of(key), variable_of(today))} instead)"


def unusable(raw: Mapping[str, Any]) -> Iterator[ConfigError]:
    """Return a mistake for each value that is nested too deep or too large for TOML, at any key.

    Later checks rely on it and do not expect such values.
    """
    left: list[tuple[str, Any, int]] = [(str(key), value, 1) for key, value in raw.items()]
    while left:
        key, value, depth = left.pop()
        inner: Iterator[tuple[Any, Any]] = iter(())
        if isinstance(value, Mapping):
            inner = iter(value.items())
        elif isinstance(value, list | tuple):
            inner = iter(enumerate(value))
        elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
            fix = "Write a smaller number, or a string in quotes" if _is_free(key) else "Write a smaller number"
            yield ConfigError(_short(key), "the number has more than 64 bits", fix)
        if depth > DEEPEST:
            yield ConfigError(_short(key), f"the value is nested more than {DEEPEST} levels deep", "Use fewer levels")
            continue
        left += [(f"{key}.{name}", each, depth + 1) for name, each in inner]


def _is_free(key: str) -> bool:
    """Whether the model defines the type of this key's value."""
    return key.startswith("model.options.")


def unknown_section(key: str, value: Any, known: Sequence[str]) -> list[ConfigError]:
    """Return the mistake of a section that does not exist, or one for each key of a section that was renamed."""
    if key not in RENAMED:
        return [unknown(key, known)]
    names = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) and value else [key]
    return [former(name) or former(key) or unknown(name, known) for name in names]


def former(key: str) -> ConfigError | None:
    """Return the mistake of a setting of an earlier version, or None if the key never existed."""
    place, _ = _place(key)
    if place in REMOVED:
        return ConfigError(_short(key), *REMOVED[place])
    new = _today(key)
    return ConfigError(_short(key), f"is now called {new}", "Rename it") if new else None


def _today(key: str) -> str | None:
    """The current name of a setting that was renamed; None for any other key."""
    place, number = _place(key)
    new = RENAMED.get(place)
    return new.replace("sink.", f"sink.{number}.") if new and number else new


def _place(key: str) -> tuple[str, str]:
    """The key as in :data:`RENAMED`, and the number of its sink or ``""``."""
    section, _, rest = key.partition(".")
    number, _, name = rest.rpartition(".")
    return (f"{section}.{name}", number) if section == "sink" else (key, "")


def unknown(key: str, known: Sequence[str]) -> ConfigError:
    """Return the mistake of a key that does not exist. The fix is the closest name in ``known``, or all of them."""
    section, _, name = key.rpartition(".")
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    meant = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}"
    what = "unknown key" if section else "unknown section"
    return ConfigError(_short(key), what, meant)


def of_section(name: str, kind: Any, value: Any) -> tuple[Any, list[ConfigError]]:
    """Validate a section: return the instance of ``kind`` (a pydantic model) and no mistakes, or None and mistakes."""
    model: type[BaseModel] = kind
    try:
        return model.model_validate(value), []
    except ValidationError as error:
        found = error.errors(include_url=False)
    mistakes: dict[str, ConfigError] = {}
    for details in found:
        mistake = _mistake(name, model, details)
        mistakes.setdefault(mistake.key, mistake)
    return None, list(mistakes.values())


def _mistake(section: str, model: type[BaseModel], details: ErrorDetails) -> ConfigError:
    path = [str(part) for part in details["loc"]]
    field = model.model_fields.get(path[0]) if path else None
    shown = shown_value(details["input"])
    kind = details["type"]
    context = details.get("ctx", {})
    if kind == "extra_forbidden":
        key = f"{section}.{path[0]}"
        return former(key) or unknown(key, list(model.model_fields))
    key = ".".join([section, *path[:2]])
    if kind == "missing":
        return ConfigError(key, "missing", _example(path[0], field))
    if kind == "wrong":
        return ConfigError(key, str(context["problem"]), str(context["fix"]))
    if kind in LIMITS:
        name, problem, bound = LIMITS[kind]
        return ConfigError(key, f"{shown} {problem}", f"Write {bound} {plain_number(context[name])}")
    if kind == "literal_error":
        return ConfigError(key, f"{shown} is not known", f"Write {context['expected']}".replace("'", '"'))
    if kind == "string_too_short":
        return ConfigError(key, "is empty", _example(path[0], field))
    if len(path) > 1:
        return ConfigError(key, f"{shown} is not allowed here", "Write a string, a whole number, true or false")
    wanted = KINDS.get(kind, "of the expected type")
    return ConfigError(key, f"{shown} is not {wanted}", _example(path[0], field) if path else f"Write [{section}]")


def _example(key: str, field: FieldInfo | None) -> str:
    if field is None:
        return "Remove it"
    example = field.examples[0] if field.examples else field.get_default(call_default_factory=True, validated_data={})
    return f"For example: {key} = {shown_value(example)}"


def plain_number(value: float) -> str:
    """Format a limit as a user may write it: digits, without an exponent for whole numbers."""
    return str(int(value)) if value == int(value) else f"{value:g}"


def shown_value(value: object) -> str:
    """Format a value as TOML, cut to ``SHOWN`` characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        return "a list of tables" if all(isinstance(each, Mapping) for each in value) else "a list of lists"
    if isinstance(value, list | tuple):
        return _short(f"[{', '.join(map(shown_value, value))}]")
    return f'"{_short(value)}"' if isinstance(value, str) else _short(str(value))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({counted(len(text), 'character')})"

"""Read a TOML file into validated settings.

:func:`load` reads the file, applies the overrides of ``PENSTOCK_<SECTION>__<KEY>``, and returns
:class:`~consumer.config.settings.Settings` or raises :class:`~consumer.config.errors.ConfigErrors` with every mistake.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumer.config.checks import across
from consumer.config.errors import ConfigErrors, of_section, shown_value, unknown_section, unusable
from consumer.config.settings import Settings
from consumer.config.sink_settings import SINKS
from consumer.config.sources import override, sources_of
from pipeline.errors import ConfigError, UserError


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of the file. Variables ``PENSTOCK_…`` of ``env`` override it.

    :raises UserError: if the file cannot be read or is not TOML.
    :raises ConfigErrors: if settings are wrong; the error has every mistake.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name a configuration file that exists") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}). Save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {_said(error)}") from None
    except RecursionError:
        raise UserError(f"{path}: lists or tables are nested too deep. Use fewer levels") from None
    except ValueError:
        most = sys.get_int_max_str_digits()
        problem = f"{path}: a number has more than {most} digits. Write a smaller number, or a string in quotes"
        raise UserError(problem) from None
    return parse(raw, env, path=path)


def _said(error: tomllib.TOMLDecodeError) -> str:
    """The parser's message with a key as the file has it, and what to do."""
    text = re.sub(r"\(('[^)]*)\)", lambda found: ".".join(re.findall(r"'([^']*)'", found[1])), str(error))
    twice = text.startswith("Cannot ")
    return (
        f"{text}. {'Write each table and each key once' if twice else 'Strings need quotes, tables look like [batch]'}"
    )


def parse(raw: Mapping[str, Any], env: Mapping[str, str] | None = None, *, path: Path | None = None) -> Settings:
    """Return the settings of a mapping with the layout of the file. ``path`` appears in messages.

    :raises ConfigErrors: if settings are wrong; the error has every mistake.
    """
    if mistakes := list(unusable(raw)):
        raise ConfigErrors(str(path or "settings"), mistakes, {})
    given, from_env, mistakes = override(raw, env or {}, Settings)
    if wrong := list(unusable(given)):
        raise ConfigErrors(str(path or "settings"), wrong, from_env)
    known = list(Settings.model_fields)
    for key in (key for key in given if key not in known):
        mistakes += unknown_section(key, given[key], known)
    sections: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        section, wrong = _sinks(given) if name == "sink" else of_section(name, field.annotation, given.get(name, {}))
        sections[name] = section
        mistakes += wrong
    mistakes += across(sections)
    if mistakes:
        raise ConfigErrors(str(path or "settings"), mistakes, from_env)
    settings = Settings.model_construct(**sections)
    settings._folder = (path.parent if path else Path.cwd()).resolve()
    settings._path = path
    settings._sources = sources_of(given, from_env)
    return settings


def _sinks(given: Mapping[str, Any]) -> tuple[tuple[Any, ...], list[ConfigError]]:
    """Check each sink by its ``type``. A sink that is wrong becomes None."""
    tables = given.get("sink", [])
    how = 'Write [[sink]] with type = "parquet" and url = "s3://bucket/enriched"'
    if not isinstance(tables, list) or not tables:
        problem = "missing" if not tables else "must be a list of tables"
        return (), [ConfigError("sink", problem, how)]
    sinks: list[Any] = []
    mistakes: list[ConfigError] = []
    for place, table in enumerate(tables):
        kind = table.get("type") if isinstance(table, dict) else None
        if kind not in SINKS:
            problem = "missing" if kind is None else f"{shown_value(kind)} is not a type of sink"
            mistakes.append(ConfigError(f"sink.{place}.type", problem, 'Write "parquet" or "kinesis"'))
            continue
        sink, wrong = of_section(f"sink.{place}", SINKS[kind], table)
        sinks.append(sink)
        mistakes += wrong
    return tuple(sinks), mistakes

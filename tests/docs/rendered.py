"""The parts of the documents that are rendered from the code. ``python -m tests.docs.rendered`` writes them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from consumer.cli import main
from consumer.config.settings import Settings
from consumer.config.sink_settings import SINKS
from pipeline.metrics import Metrics
from tests.docs import figures, image_figures
from tests.support import operators

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 80


def helps() -> str:
    """The ``--help`` of every command."""
    return "\n".join(_help(context) for context in contexts())


def contexts(command: click.Command = main, parent: click.Context | None = None) -> Iterator[click.Context]:
    """The command and all its subcommands, with the names that users type."""
    name = command.name if parent else "penstock"
    context = click.Context(command, parent, info_name=name, terminal_width=WIDTH, help_option_names=["-h", "--help"])
    yield context
    if isinstance(command, click.Group):
        for _, below in sorted(command.commands.items()):
            yield from contexts(below, context)


def _help(context: click.Context) -> str:
    text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    return f"## {context.command_path}\n\n```text\n{text}\n```\n"


def settings() -> str:
    """One table per section, one row per key."""
    parts = []
    for section, field in Settings.model_fields.items():
        if section == "sink":
            parts += [_table(f'[[sink]]` with `type = "{kind}"', f"sink.{kind}", SINKS[kind]) for kind in SINKS]
        else:
            model = field.annotation
            assert isinstance(model, type)
            assert issubclass(model, BaseModel)
            parts.append(_table(f"[{section}]", section, model))
    return "\n".join(parts)


def _table(title: str, section: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{section}.{name}` | {_default(field)} | {field.description} |"
        for name, field in model.model_fields.items()
        if name != "type"
    ]
    return "\n".join([f"### `{title}`", "", "| key | default | what it is |", "|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return f"required, such as `{_toml(field.examples[0])}`" if field.examples else "required"
    return f"`{_toml(field.get_default(call_default_factory=True, validated_data={}))}`"


def _toml(value: Any) -> str:
    """A value as TOML takes it. That is JSON, except for tables with entries."""
    return json.dumps(value)


def metrics() -> str:
    """One row per metric of ``/metrics``."""
    rows = [
        f"| `{family.name}{'_total' * (family.type == 'counter')}` | {family.type} | {family.documentation} |"
        for family in sorted(Metrics().registry.collect(), key=lambda family: family.name)
    ]
    return "\n".join(["| metric | type | what it counts |", "|---|---|---|", *rows, ""])


def permissions() -> str:
    """A table per policy of operators.yaml, a row per statement."""
    names = {"application": "APPLICATION", "stream": "STREAM", "bucket": "BUCKET", "table": "TABLE"}
    parts = []
    for policy in operators.policies(**names, dead_letter="DEAD_LETTER").values():
        commands = ", ".join(each if each == "all others" else f"`{each}`" for each in policy.commands)
        rows = [_permitted(statement) for statement in policy.statements]
        parts += [f"**`{policy.name}`**: {commands}", "", "| actions | on |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _permitted(statement: dict[str, Any]) -> str:
    resources = [each.rpartition(":")[2] for each in statement["Resource"]]
    names = {"*": "everything", "TaskRole.Arn": "the role of tasks"}
    shown = ", ".join(names.get(each, f"`{each}`") for each in resources)
    return f"| {', '.join(f'`{action}`' for action in statement['Action'])} | {shown} |"


def rooms() -> str:
    """One row per room, from the import rules; the modules of the first row are the words."""
    tool = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]
    contracts = tool["importlinter"]["contracts"]
    words = set(contracts[0]["room"])
    rows = [_room(contract, words) for contract in contracts if not contract.get("standard_library_only")]
    return "\n".join(["| room | what lives there | may import, of ours |", "|---|---|---|", *rows, ""])


def _room(contract: dict[str, Any], words: set[str]) -> str:
    others = [f"`{module}`" for module in contract["may_import"] if module not in words]
    known = words.intersection(contract["may_import"])
    named = _words(words - known) if len(known) > len(words - known) else _quoted(known)
    modules = ", ".join(f"`{module}`" for module in contract["room"])
    return f"| {modules} | {contract['name']} | {', '.join([*others, *named]) or 'each other'} |"


def _words(missing: set[str]) -> list[str]:
    """All words but ``missing``."""
    return [f"words except {', '.join(_quoted(missing))}" if missing else "words"]


def _quoted(modules: set[str]) -> list[str]:
    return [f"`{module}`" for module in sorted(modules)]


RENDERED: dict[tuple[str, str], Callable[[], str]] = {
    ("cli.md", "commands"): helps,
    ("configuration.md", "settings"): settings,
    ("metrics.md", "metrics"): metrics,
    ("operations.md", "permissions"): permissions,
    ("../CONTRIBUTING.md", "rooms"): rooms,
    ("reliability.md", "figures"): figures.reliability,
    ("performance.md", "figures"): figures.performance,
    ("deployment.md", "figures"): image_figures.image,
}
"""By file and marker."""


def between(text: str, marker: str) -> re.Match[str] | None:
    """The part of a document between ``<!-- begin marker -->`` and ``<!-- end marker -->``."""
    return re.search(rf"(?<=<!-- begin {marker} -->\n).*?(?=<!-- end {marker} -->)", text, flags=re.DOTALL)


def write() -> None:
    for (name, marker), render in RENDERED.items():
        path = DOCS / name
        text = path.read_text()
        part = between(text, marker)
        assert part is not None, f"{name} has no marker {marker}"
        path.write_text(text[: part.start()] + render() + text[part.end() :])


if __name__ == "__main__":
    write()

"""Nothing a user can type or set is undocumented."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from consumer.config import parse
from tests.docs.rendered import DOCS, RENDERED, between, contexts

ROOT = DOCS.parent


@pytest.mark.parametrize(("name", "marker"), RENDERED)
def test_what_is_rendered_from_the_code_is_checked_in_as_it_is(name: str, marker: str) -> None:
    part = between((DOCS / name).read_text(), marker)
    assert part is not None
    assert part.group() == RENDERED[name, marker](), "run: make docs"


def test_every_command_and_option_says_what_it_is_for() -> None:
    for context in contexts():
        assert context.command.help, context.command_path
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (context.command_path, parameter.name)


def test_every_requirement_has_its_reason() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    wanted = {Requirement(line).name for line in lines.strip().splitlines()}
    documented = set(re.findall(r"(?m)^\| `([^`]+)` \|", (DOCS / "dependencies.md").read_text()))
    assert documented == wanted


def test_every_configuration_in_the_documents_is_valid() -> None:
    shown = [
        (path.name, text)
        for path in [*DOCS.glob("*.md"), ROOT / "README.md"]
        for text in re.findall(r"```toml\n(.*?)```", path.read_text(), flags=re.DOTALL)
        if "[stream]" in text
    ]
    assert any(name == "configuration.md" for name, _ in shown)
    for name, text in shown:
        assert parse(tomllib.loads(text), path=Path(name)).stream.name


def test_locks_hold_no_trace_of_the_machine_that_wrote_them() -> None:
    for lock in ROOT.glob("requirements*.lock"):
        for line in lock.read_text().splitlines():
            assert re.fullmatch(r"[a-z0-9._-]+==[\w.]+( \\)?| {4}--hash=sha256:[0-9a-f]{64}( \\)?", line), (lock, line)


def test_locks_satisfy_what_is_required() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    pins: dict[str, str] = {}
    for lock in ROOT.glob("requirements*.lock"):
        pins.update(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", lock.read_text()))
    for line in (setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]).strip().splitlines():
        required = Requirement(line)
        name = re.sub(r"[-_.]+", "-", required.name).lower()
        assert required.specifier.contains(pins[name]), f"{name} {pins[name]}: run make lock"

"""A message is one line without control characters, whatever text is in it; several mistakes are a line each."""

from __future__ import annotations

import ast
import re
import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from consumer import cli
from consumer.aws.clients import Aws
from consumer.cli import main
from consumer.config.settings import Settings
from consumer.config.sources import variable_of
from pipeline.errors import UserError
from tests.cli.test_output import LEAVES, SERVERS
from tests.support.command_line import GOOD

EVIL = "x\nok: no mistakes\r\x1b[31m\x9b\u202e\u2028ok: y"
ACT = ("penstock demo", "penstock init", *SERVERS)
"""Commands that would take any text, and act."""


def pure(result: Result) -> bool:
    """Whether the output has no line that the text made, and no character that acts."""
    acting = [each for each in result.output if unicodedata.category(each) in ("Cc", "Cf", "Zl") and each != "\n"]
    return not acting and not re.search(r"^\s*ok:", result.output, re.MULTILINE)


OPTIONS = [
    (path, each)
    for path, command in LEAVES.items()
    for each in command.params
    if path not in ACT and not (isinstance(each, click.Option) and each.is_flag)
]


@pytest.mark.parametrize("path", sorted({path for path, _ in OPTIONS}))
def test_no_argument_makes_a_line(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(aws: Aws, service: str) -> None:
        raise UserError("this test has no AWS")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Aws, "_client", none)
    for place, option in OPTIONS:
        if place == path:
            words = [option.opts[0], EVIL] if isinstance(option, click.Option) else [EVIL] * 3
            for more in ([], [EVIL], ["--stream", "s", "--application", "application"]):
                result = CliRunner().invoke(main, [*path.split()[1:], *words, *more], prog_name="penstock")
                assert isinstance(result.exception, SystemExit) and result.exit_code, (words, result.exception)
                assert pure(result), result.output


@pytest.mark.parametrize(
    "words", [[EVIL], [f"--{EVIL}"], ["config", EVIL], ["config", f"--{EVIL}"], ["audit", "a", EVIL]]
)
def test_no_unknown_command_and_no_unknown_option_makes_a_line(words: list[str]) -> None:
    result = CliRunner().invoke(main, words, prog_name="penstock")
    assert result.exit_code == 2 and pure(result), result.output


SETTINGS = [
    f"{section}.{key}"
    for section, field in Settings.model_fields.items()
    for key in getattr(field.annotation, "model_fields", {})
]


def test_no_setting_makes_a_line(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [*SETTINGS, "sink.0.url", "sink.0.type", "sink.0.x", "model.passthrough.x", "kcl.properties.x"]:
        with monkeypatch.context() as patch:
            patch.setenv(variable_of(key), EVIL)
            result = CliRunner().invoke(main, ["config", "check", str(good)], prog_name="penstock")
            assert result.exit_code in (0, 2) and pure(result), result.output
            if result.exit_code:
                first, *others = result.stderr.splitlines()
                assert first == f"penstock: {good}: one mistake" and len(others) == 1


@pytest.mark.parametrize(
    "changed",
    [
        f'"KEY" = 1\n{GOOD}',
        f'{GOOD}\n["KEY"]\nx = 1',
        GOOD.replace("[stream]", '[stream]\n"KEY" = 1'),
        f'{GOOD}\n[model.passthrough]\n"KEY" = "x"',
        f'{GOOD}\n[model.options]\n"KEY" = {2**64}',
        f"{GOOD}\n[KEY",
    ],
)
def test_no_key_makes_a_line(changed: str, tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(changed.replace("KEY", r"x\nok: no mistakes\u001b[31m\u2028ok: y"))
    result = CliRunner().invoke(main, ["config", "check", str(path)], prog_name="penstock")
    assert result.exit_code == 2 and pure(result), result.output


PRINTERS = {
    ("__init__.py", "_tell"),
    ("config.py", "show"),
    ("dead_letters/command.py", "show"),
    ("doctor.py", "_say"),
    ("output.py", "*"),
    ("status/looks.py", "show_each"),
    ("tail.py", "*"),
    ("tune.py", "_say"),
}
"""What calls ``click.echo`` itself: it escapes its text, prints a payload unchanged, or prints an empty line."""


def test_everything_else_is_printed_by_the_module_that_escapes_it() -> None:
    folder = Path(cli.__path__[0])
    found = {
        (str(path.relative_to(folder)), function.name)
        for path in folder.rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "click.secho", "print")
    }
    assert {(file, name) for file, name in found if {(file, name), (file, "*")}.isdisjoint(PRINTERS)} == set()

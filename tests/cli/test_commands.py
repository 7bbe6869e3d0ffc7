"""The command line: exit codes, output on stdout and stderr, and a fast ``--help``."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from consumer.cli import Commands
from consumer.config.settings import Settings
from pipeline.errors import Fatal, PenstockError, UserError
from pipeline.machine import frugal
from tests.docs.rendered import contexts
from tests.support.command_line import penstock

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "matplotlib",
    "numpy",
    "pyarrow",
    "pandas",
    "moto",
    "pydantic",
    "rich",
    "boto3",
    "botocore",
    "hypercorn",
    "prometheus_client",
)
AT_ONCE_S = 0.3


def children_s() -> float:
    """CPU seconds of a finished process. Unlike elapsed time, they do not depend on other load."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("words", [["--help"], ["tune", "--help"]])
def test_help_imports_nothing_heavy_and_is_instant(words: list[str]) -> None:
    script = (
        "import sys\n"
        "from consumer.cli import main\n"
        f"main({words!r}, prog_name='penstock', standalone_mode=False)\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('heavy:', heavy, file=sys.stderr)\n"
    )
    for _ in range(3):
        before_s = children_s()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        if (took_s := children_s() - before_s) < AT_ONCE_S:
            break
    assert done.stderr == "heavy: []\n"
    assert done.stdout.startswith("Usage: penstock")
    assert took_s < AT_ONCE_S, "three times"


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "-h"], ["demo", "-h"], ["local", "up", "-h"], ["config", "show", "-h"]]
)
def test_help_is_on_stdout(words: list[str]) -> None:
    result = penstock(*words)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: penstock")
    assert result.stderr == ""


def test_version_is_that_of_the_package() -> None:
    result = penstock("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("penstock, version 0.")


@pytest.mark.parametrize(
    "words",
    [["rnu"], ["run"], ["demo", "--records", "0"], ["demo", "--records", "x"], ["local", "up", "--limits", "maybe"]],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(words: list[str]) -> None:
    result = penstock(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def failing(error: BaseException, *words: str) -> Result:
    @click.group(cls=Commands)
    @click.option("--debug", is_flag=True)
    def group(debug: bool) -> None:
        """A group with one command, which fails."""

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, [*words, "fail"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("stream events: does not exist"), 2, "penstock: stream events: does not exist\n"),
        (Fatal("the chain was forked"), 1, "penstock: the chain was forked\n"),
        (PenstockError("no"), 1, "penstock: no\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error: BaseException, code: int, line: str) -> None:
    result = failing(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line)


def test_debug_shows_the_traceback_too() -> None:
    result = failing(UserError("no such stream"), "--debug")
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("penstock: no such stream\n")


def test_a_bug_is_not_dressed_up_as_an_error() -> None:
    result = failing(ZeroDivisionError())
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("name", ["pipeline", "click", "logging"])
def test_the_module_runs_in_a_folder_with_files_of_any_name(name: str, good: Path) -> None:
    """A ``consumer.py`` is the exception: Python looks in the working directory first for the name after ``-m``."""
    good.with_name(f"{name}.py").write_text("raise SystemExit('not yours')\n")
    run = subprocess.run(
        [sys.executable, "-m", "consumer.cli", "config", "check", good.name],
        cwd=good.parent,
        env=os.environ | {"PYTHONPATH": f"{good.parent}{os.pathsep}{ROOT}" if name == "pipeline" else str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, f"{good.name}: no mistakes\n"), run.stderr


WITH_FILE = [["config", "check"], ["config", "show"], ["run", "--config"], ["tune", "--config"]]


@pytest.mark.parametrize("words", WITH_FILE)
def test_a_missing_file_is_one_line(words: list[str]) -> None:
    result = penstock(*words, "nothing.toml")
    assert result.exit_code == 2
    assert result.stderr == (
        "penstock: nothing.toml: cannot be read (No such file or directory). Name a configuration file that exists\n"
    )


def pretend(monkeypatch: pytest.MonkeyPatch, module: str, **names: object) -> None:
    """Stand-ins for the modules that a command imports when it runs."""
    parent, _, name = module.rpartition(".")
    fake = SimpleNamespace(**names)
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(f"{parent}.{name}", fake, raising=False)


class Calls:
    """Remembers its arguments, and returns an exit code."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.seen: list[tuple[Any, ...]] = []

    def __call__(self, *given: Any) -> int:
        self.seen.append(given)
        return self.code


@pytest.fixture(autouse=True)
def _logs_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose logs are JSON lines ends with a JSON line: the tests of other files would, too."""
    monkeypatch.setattr("consumer.logs.configure", Calls())


def test_run_hands_the_settings_on_and_exits_with_the_answer(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    run = Calls(code=1)
    pretend(monkeypatch, "consumer.app", run=run)
    assert penstock("run", "--config", good).exit_code == 1
    assert [settings.stream.name for (settings,) in run.seen] == ["events"]


def test_run_with_mistakes_never_gets_to_the_consumer(monkeypatch: pytest.MonkeyPatch, bad: Path) -> None:
    run = Calls()
    pretend(monkeypatch, "consumer.app", run=run)
    result = penstock("run", "--config", bad)
    assert result.exit_code == 2
    assert "2 mistakes" in result.stderr
    assert run.seen == []


def test_local_up_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    up = Calls()
    pretend(monkeypatch, "consumer.local.server", up=up)
    assert penstock("local", "up", "--port", "0", "--limits", "off").exit_code == 0
    assert up.seen == [("127.0.0.1", 0, False, False)]


def test_a_run_collects_no_garbage_before_its_task_consumes(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    seen: list[object] = []

    def started(settings: Settings) -> int:
        seen.extend([gc.isenabled(), gc.get_threshold()])
        return 0

    pretend(monkeypatch, "consumer.app", run=started)
    assert penstock("run", "--config", good).exit_code == 0
    assert (seen, gc.isenabled()) == ([False, frugal.USUAL_THRESHOLDS], True)


SCRIPT = """
import sys, types
from pipeline.errors import Fatal
def run(settings):
    raise {error}
sys.modules["consumer.app"] = types.SimpleNamespace(run=run)
import consumer; consumer.app = sys.modules["consumer.app"]
from consumer.cli import main
main(["run", "--config", sys.argv[1]], prog_name="penstock")
"""


@pytest.mark.parametrize("error", ['Fatal("the chain was forked")', 'ZeroDivisionError("the chain was forked")'])
def test_run_ends_with_a_json_line_that_says_why(good: Path, error: str) -> None:
    script = SCRIPT.format(error=error)
    done = subprocess.run([sys.executable, "-c", script, str(good)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    last = [json.loads(line) for line in done.stderr.splitlines()][-1]
    assert last["level"] in {"ERROR", "CRITICAL"}
    assert "the chain was forked" in last["msg"]


@pytest.mark.parametrize("context", [each for each in contexts() if isinstance(each.command, click.Group)])
def test_a_list_of_commands_has_whole_sentences(context: click.Context) -> None:
    assert isinstance(context.command, click.Group)
    [_, listed] = context.command.get_help(context).split("Commands:")
    assert "..." not in listed
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        assert command is not None and command.help is not None
        first = " ".join(command.help.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
        assert first in " ".join(listed.split())

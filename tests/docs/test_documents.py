"""Every command, option and setting is documented, and the documents are correct."""

from __future__ import annotations

import ast
import configparser
import itertools
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from consumer.config.load import parse
from pipeline.extras import EXTRAS
from pipeline.metrics import Metrics
from tests.docs.rendered import DOCS, RENDERED, between, contexts

ROOT = DOCS.parent
SHOWS_METRICS = ("consumer", "pipeline", "deploy", "notebooks", "examples", "benchmarks")
SOURCES = {".py", ".yaml", ".yml", ".json", ".sql", ".ipynb", ".md", ".toml", ".sh"}
DOCUMENTS = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "deploy").glob("*.md")]


@pytest.mark.parametrize(("name", "marker"), RENDERED)
def test_parts_that_are_rendered_from_the_code_are_up_to_date(name: str, marker: str) -> None:
    part = between((DOCS / name).read_text(), marker)
    assert part is not None
    assert part.group() == RENDERED[name, marker](), "run: make docs"


def test_renamed_metrics_are_gone_and_their_new_names_exist() -> None:
    table = (DOCS / "metrics.md").read_text().partition("## Renamed metrics")[2]
    names = re.findall(r"(?m)^\| `(penstock_\w+)` \| `(penstock_\w+)`", table)
    assert names
    exported = {family.name + "_total" * (family.type == "counter") for family in Metrics().registry.collect()}
    assert {new for _, new in names} <= exported
    assert not exported.intersection(old for old, _ in names)
    former = re.compile(rf"\b(?:{'|'.join(old.removesuffix('_total') for old, _ in names)})(?:_total)?\b")
    files = (path for folder in SHOWS_METRICS for path in (ROOT / folder).rglob("*") if path.suffix in SOURCES)
    assert [str(path) for path in files if former.search(path.read_text())] == []


def test_every_command_and_option_says_what_it_is_for() -> None:
    for context in contexts():
        assert context.command.help, context.command_path
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (context.command_path, parameter.name)


ALWAYS = ""
"""Requirements that are installed without an extra."""


def requirements() -> dict[str, list[Requirement]]:
    """The requirements in setup.cfg, by extra; an extra of our own is named ``penstock``."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = {ALWAYS: setup["options"]["install_requires"], **setup["options.extras_require"]}
    return {extra: [Requirement(line) for line in text.strip().splitlines()] for extra, text in lines.items()}


def test_every_requirement_has_its_reason() -> None:
    """Each requirement has a reason in the table of its extra."""
    parts = re.split(r"(?m)^## .*?(?:`\[(\w+)\]`)?$", (DOCS / "dependencies.md").read_text())[1:]
    documented = {
        extra or ALWAYS: set(re.findall(r"(?m)^\| `([^`]+)` \|", text))
        for extra, text in zip(parts[::2], parts[1::2], strict=True)
        if "| package |" in text
    }
    wanted = {extra: {each.name for each in some if each.name != "penstock"} for extra, some in requirements().items()}
    assert documented == wanted


def test_the_modules_of_each_extra_are_those_that_its_requirements_bring() -> None:
    providers = provided()
    for extra, modules in EXTRAS.items():
        names = {canonical(each.name) for each in requirements()[extra]} - {"penstock"}
        found = {PART_OF.get(module) or canonical(providers[module][0]) for module in modules}
        assert found == names, extra


def test_every_default_in_the_documents_is_toml() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    shown = re.findall(r"^\| `[a-z_]+\.[a-z_.]+` \| (?:required, such as )?`(?!PENSTOCK_)(.+?)` \|", text, re.MULTILINE)
    assert len(shown) > 30
    for value in shown:
        tomllib.loads(f"value = {value}")


def test_every_configuration_in_the_documents_is_valid() -> None:
    shown = [
        (path.name, text)
        for path in DOCUMENTS
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
    pins: dict[str, str] = {}
    for lock in ROOT.glob("requirements*.lock"):
        pins.update(re.findall(r"(?m)^([a-z0-9._-]+)==(\S+)", lock.read_text()))
    for required in {each for some in requirements().values() for each in some if each.name != "penstock"}:
        name = canonical(required.name)
        assert required.specifier.contains(pins[name]), f"{name} {pins[name]}: run make lock"


def test_locked_packages_run_on_the_oldest_python_that_is_named() -> None:
    """Debian 12's own Python is 3.11.2, for example. A lock is made by a newer one."""
    oldest = re.findall(r"python_requires = >=(\S+)", (ROOT / "setup.cfg").read_text())[0]
    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)==", "".join(path.read_text() for path in ROOT.glob("*.lock"))))
    for package in distributions():
        wanted = package.metadata["Requires-Python"]
        if wanted and canonical(package.name) in {canonical(name) for name in locked}:
            assert SpecifierSet(wanted).contains(f"{oldest}.0"), f"{package.name} {package.version}: {wanted}"


def shown_commands() -> list[tuple[str, str]]:
    """Every line of a code block that a user would type: ``(document, line)``."""
    return [
        (path.name, line)
        for path in DOCUMENTS
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", path.read_text(), flags=re.DOTALL)
        for line in re.findall(r"(?m)^(?:\$ )?((?:make|penstock) [^#&|>\n]*)", block)
    ]


COMES_WITH_IT = {"make", "penstock", "python"}
OF_THE_SHELL = {"echo", ".", "export", "sleep"}


def test_a_newcomer_has_every_program_that_is_shown() -> None:
    for path in DOCUMENTS:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(), flags=re.DOTALL):
            typed = set(re.findall(r"(?m)^\$ (\S+)", block) or re.findall(r"(?m)^(\S+)", block))
            assert "aws" not in typed, path.name  # the AWS CLI is no package of ours
            assert path != ROOT / "README.md" or typed <= COMES_WITH_IT | OF_THE_SHELL


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    known = {context.command_path: context for context in contexts()}
    shown = shown_commands()
    assert {"make demo", "make test"} <= {line.strip() for _, line in shown}
    for document, line in shown:
        words = shlex.split(line)
        if words[0] == "make":
            assert words[1] in targets, (document, line)
            continue
        path = list(itertools.takewhile(lambda word: re.fullmatch("[a-z][a-z-]*", word), words))
        while " ".join(path) not in known:
            path.pop()
        context = known[" ".join(path)]
        options = {name for parameter in context.command.get_params(context) for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, (document, line)
        assert not isinstance(context.command, click.Group), (document, line)


def test_every_test_that_is_named_as_a_proof_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "reliability.md").read_text()))
    assert len(named) > 20
    for path, name in named:
        assert not name or f"def {name}(" in (ROOT / path).read_text(), (path, name)
        assert (ROOT / path).is_file(), path


def links(path: Path) -> list[tuple[Path, str]]:
    """The files that a document links to, each with its anchor or an empty text."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    found = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text)
    return [((path.parent / target).resolve() if target else path, anchor) for target, anchor in found]


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    heads = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_leads_to_a_file_and_a_heading_that_are_there() -> None:
    for path in DOCUMENTS:
        for target, anchor in links(path):
            assert target.exists(), (path.name, target.name)
            assert not anchor or anchor in anchors(target), (path.name, target.name, anchor)


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        waiting += [target for target, _ in links(path) if target.suffix == ".md" and target not in reached]
    assert set(DOCUMENTS) == reached


def test_every_part_that_the_documents_for_newcomers_name_is_there() -> None:
    for path in (ROOT / "CONTRIBUTING.md", DOCS / "architecture.md", DOCS / "models.md"):
        for part in re.findall(r"`((?:consumer|pipeline|tests|examples)/[\w/.]*)`", path.read_text()):
            assert (ROOT / part).exists(), (path.name, part)


PART_OF = {
    "botocore": "boto3",
    "pydantic_core": "pydantic",
    "werkzeug": "moto",
    "flask": "moto",
}
"""Packages that come with another one and share its interface."""
TYPES_ONLY = {"mypy_boto3_dynamodb", "mypy_boto3_kinesis", "mypy_boto3_s3"}
"""Modules that are imported only for the type checker."""


@cache
def provided() -> Mapping[str, list[str]]:
    """The distributions of each module; it takes a look at every installed file."""
    return packages_distributions()


def imported(path: Path) -> set[str]:
    """The top-level names that a module imports, also inside functions."""
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"consumer", "deploy", "examples", "pipeline", "tests"} - TYPES_ONLY


def statements(block: ast.AST) -> Iterator[ast.AST]:
    """What stands in a block, and in the blocks within it; to walk through expressions as well takes ten times as
    long."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for each in getattr(block, name, ()):
            yield each
            yield from statements(each)


MAY_IMPORT = {
    "consumer/local": {ALWAYS, "local"},
    "consumer/tuning": {ALWAYS, "tune"},
    "consumer": {ALWAYS},
    "pipeline": {ALWAYS},
    "examples": {ALWAYS, "demo", "torch"},
}
"""The extras that each part of the code may import from; the first match counts."""


def test_imported_packages_are_required_by_the_extra_of_their_room() -> None:
    required = {extra: {canonical(each.name) for each in some} for extra, some in requirements().items()}
    providers = provided()
    for path in (path for room in ("consumer", "pipeline", "examples") for path in (ROOT / room).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        extras = next(extras for part, extras in MAY_IMPORT.items() if name.startswith(part))
        for module in imported(path):
            provided_by = {PART_OF.get(module) or canonical(package) for package in providers.get(module, [module])}
            assert any(provided_by & required[extra] for extra in extras), (name, module, extras)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

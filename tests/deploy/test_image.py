"""The image as it is written: its user, its command, and what is not in it. ``make image-test`` runs it."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.image import build, layers
from pipeline.model import user_modules
from tests.image import startup
from tests.image.container import mounts, specification
from tests.image.layers import reasons

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
MODELS = ROOT / "examples" / "minilm" / "Dockerfile"
FILES = [DOCKERFILE, MODELS]


def lines(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, without comments, with continued lines joined."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line.strip()]


def final(path: Path) -> list[tuple[str, str]]:
    """The stage that becomes the image."""
    found = lines(path)
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[last:]


def one(path: Path, word: str) -> str:
    [value] = [rest for each, rest in final(path) if each == word]
    return value


# ---------------------------------------------------------------- what runs


def test_the_user_is_a_number_that_never_changes_and_not_root() -> None:
    uid, gid = one(DOCKERFILE, "USER").split(":")
    made = next(rest for word, rest in final(DOCKERFILE) if word == "RUN")
    assert f"--uid {uid} --gid penstock" in made
    assert f"groupadd --gid {gid} penstock" in made
    assert int(uid) >= 10000


def test_a_secret_can_be_read_by_the_user_that_reads_it() -> None:
    """Docker mounts a secret for the user 0, with the mode 0400, unless it is told another user."""
    uid = one(DOCKERFILE, "USER").split(":")[0]
    mounts = re.findall(r"--mount=type=secret,\S+", MODELS.read_text())
    assert mounts and all(f",uid={uid}" in mount for mount in mounts)


def test_pid_1_is_penstock_run_without_a_shell() -> None:
    assert json.loads(one(DOCKERFILE, "ENTRYPOINT")) == ["penstock"]
    assert json.loads(one(DOCKERFILE, "CMD")) == ["run", "--config", "/etc/penstock/penstock.toml"]
    assert one(DOCKERFILE, "STOPSIGNAL") == "SIGTERM"


def test_only_the_volume_is_written_to() -> None:
    """The root may be read-only: no module is compiled at run time, and caches have a folder."""
    environment = dict(word.split("=", 1) for word in one(DOCKERFILE, "ENV").split())
    assert one(DOCKERFILE, "VOLUME") == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["XDG_CACHE_HOME"].startswith("/tmp/")
    assert f"/{environment['PENSTOCK_HEALTH__PORT']}" == f"/{one(DOCKERFILE, 'EXPOSE')}"


# ---------------------------------------------------------------- what is in it


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_build_tools_are_not_in_the_image(path: Path) -> None:
    """The last stage runs neither pip nor a package manager, and copies from the others only what they installed."""
    ran = " ".join(rest for word, rest in final(path) if word == "RUN")
    assert not re.search(r"\b(pip|apt|apt-get|curl|wget|gcc|make)\b", ran)
    copied = [rest for word, rest in final(path) if word == "COPY" and "--from=" in rest]
    assert copied
    assert all(rest.endswith("/ /") and "tools" not in rest for rest in copied)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_packages_come_from_locks_with_their_hashes(path: Path) -> None:
    """All packages except torch, whose builds have the same version and different hashes, and what was built here."""
    ran = " ".join(rest for word, rest in lines(path) if word == "RUN")
    installs = re.findall(r"(?:install|wheel) [^&;]*-r \S+", ran.replace("pip --python", ""))
    assert installs
    for each in installs:
        assert "--require-hashes" in each or re.search("-r requirements-torch.lock;?$", each), each
    for each in re.findall(r"\bpip (?:--python \S+ )?(?:install|wheel) [^&;]*", ran):
        assert "-r " in each or ".whl" in each or each.rstrip().endswith((" .", '"$@"')), each


def test_the_choices_are_arguments() -> None:
    declared = {rest.split("=")[0] for word, rest in lines(DOCKERFILE) if word == "ARG"}
    assert declared == {"PYTHON", "KCL", "MAVEN", "TORCH", "TORCH_INDEX", "VERSION", "REVISION", "SOURCE"}
    assert all(
        rest.count("=") <= 1 for word, rest in lines(DOCKERFILE) if word == "ARG"
    )  # buildah takes the first alone
    defaults = {rest.split("=")[0]: rest.partition("=")[2] for word, rest in lines(DOCKERFILE) if word == "ARG"}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert defaults["VERSION"] == setup["metadata"]["version"]
    assert defaults["PYTHON"].endswith("-slim-bookworm")


def test_layers_that_change_often_come_last() -> None:
    copied = [re.search(r"--from=\w+ (\S+)", rest) for word, rest in final(DOCKERFILE) if word == "COPY"]
    assert [found[1] for found in copied if found] == [
        "/java/",
        "/cuda/",
        "/torch/",
        "/packages/",
        "/kcl/",
        "/penstock/",
    ]
    own = [rest for word, rest in final(MODELS) if word == "COPY"]
    assert ["--from=" in rest for rest in own] == [True, True, False, False, False]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_layer_has_its_reason(path: Path) -> None:
    text = path.read_text()
    stage = text[text.rindex("\nFROM ") :]
    for found in re.finditer(r"(?m)^(?:RUN|COPY) .*$", stage):
        before = stage[: found.start()].rstrip("\n").rpartition("\n")[2]
        assert before.startswith("# "), found[0]


def test_every_file_that_is_copied_gets_to_the_build() -> None:
    """Files that ``.dockerignore`` excludes cannot be copied."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in FILES:
        for word, rest in lines(path):
            if word == "COPY" and "--from=" not in rest:
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(Path(source).match(each) or source.startswith(f"{each}/") for each in kept), source


def test_the_model_is_where_penstock_looks_for_it(tmp_path: Path) -> None:
    """Files beside the configuration."""
    places = [rest.split()[-1] for word, rest in final(MODELS) if word == "COPY" and "--from=" not in rest]
    folder = Path(json.loads(one(DOCKERFILE, "CMD"))[-1]).parent
    assert all(Path(place).is_relative_to(folder) for place in places)
    for place in places:
        (tmp_path / Path(place).relative_to(folder)).mkdir(parents=True, exist_ok=True)
    for name in ("examples/__init__.py", "examples/minilm/__init__.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert user_modules.exists("examples.minilm", [str(tmp_path)])


# ---------------------------------------------------------------- sealed layers


def test_a_sealed_layer_says_no_time_and_has_compiled_modules(tmp_path: Path) -> None:
    found = []
    for name in ("first", "second"):
        module = tmp_path / name / "venv" / "lib" / "python3.11" / "site-packages" / "thing.py"
        module.parent.mkdir(parents=True)
        module.write_text("x = {'a', 'b'}\n")
        (tmp_path / name / "venv" / "lib64").symlink_to("lib")  # as a virtual environment has it
        layers.seal(tmp_path / name)
        [compiled] = (tmp_path / name).rglob("*.pyc")
        assert b"/venv/lib/python3.11/site-packages/thing.py" in compiled.read_bytes()
        assert str(tmp_path).encode() not in compiled.read_bytes()
        found.append(compiled.read_bytes())
        assert {path.lstat().st_mtime for path in (tmp_path / name).rglob("*")} == {layers.EPOCH_S}
    assert found[0] == found[1]


def test_packages_are_moved_with_their_place(tmp_path: Path) -> None:
    site = tmp_path / "all" / "venv" / "lib" / "python3.11" / "site-packages"
    for name in ("java/bin", "java-1.dist-info", "other"):
        (site / name).mkdir(parents=True)
    layers.main([f"{tmp_path / 'all'}={tmp_path / 'java'}=java*"])
    assert [path.name for path in site.iterdir()] == ["other"]
    assert (tmp_path / "java" / "venv" / "lib" / "python3.11" / "site-packages" / "java" / "bin").is_dir()
    with pytest.raises(SystemExit, match="nothing that fits java"):
        layers.main([f"{tmp_path / 'all'}={tmp_path / 'java'}=java*"])


# ---------------------------------------------------------------- make image


def test_the_images_that_are_built() -> None:
    names = [(image.name, image.arguments.get("TORCH")) for image in build.images({}, "base")]
    assert names == [("penstock", "none"), ("penstock:cpu", "cpu"), ("penstock-minilm", None)]
    [only] = build.images({"TORCH": "none", "KCL": "amazon_kclpy"}, None)
    assert only.arguments["KCL"] == "amazon_kclpy"
    assert "PYTHON" not in only.arguments


def test_the_build_asks_the_index_that_this_machine_asks(tmp_path: Path) -> None:
    index, wheels, certificate = tmp_path / "index" / "simple", tmp_path / "wheels", tmp_path / "certs" / "ca.pem"
    for folder in (index, wheels, certificate.parent):
        folder.mkdir(parents=True)
    certificate.touch()
    listed = (
        f"global.extra-index-url='file://{index}'\nglobal.cert='elsewhere'\n:env:.cert='{certificate}'\n"
        f":env:.find-links='{wheels}'\nuser.timeout='3'\nglobal.proxy='http://u:p@proxy'\n"
    )
    settings = build.pip_settings(listed)
    assert settings == {"extra-index-url": f"file://{index}", "cert": str(certificate), "find-links": str(wheels)}
    assert build.mounts(settings) == sorted([index.parent, wheels, certificate.parent])
    assert build.pip_conf({"cert": "x"}) == "[global]\ncert = x\n"


def test_nothing_of_this_machine_is_an_argument_of_the_build() -> None:
    image = build.Image("penstock", "Dockerfile", {"TORCH": "cpu"})
    assert build.docker(image, Path("pip.conf")) == [
        "docker", "build", "--tag", "penstock", "--file", "Dockerfile", "--secret", "id=pip,src=pip.conf",
        "--build-arg=TORCH=cpu", ".",
    ]  # fmt: skip
    command = build.buildah(image, Path("pip.conf"), [Path("/wheels")])
    assert command[-2:] == ["--build-arg=TORCH=cpu", "."]
    assert "--volume=/wheels:/wheels:ro" in command
    assert command[command.index("--isolation") + 1] == "chroot"


# ---------------------------------------------------------------- make image-test


def test_a_container_gets_what_the_image_says() -> None:
    image: dict[str, Any] = {
        "User": "10001:10001", "Env": ["PATH=/venv/bin", "A=1"], "Entrypoint": ["penstock"], "Cmd": ["run"],
        "WorkingDir": "/home/penstock", "Volumes": {"/tmp": {}},
    }  # fmt: skip
    told = specification(image, Path("/root-of-it"), {"A": "2"}, 2048)
    process = told["process"]
    assert process["args"] == ["penstock", "run"]
    assert (process["user"], process["noNewPrivileges"], process["capabilities"]) == (
        {"uid": 10001, "gid": 10001}, True, {},
    )  # fmt: skip
    assert {"A=2", "PATH=/venv/bin"} <= set(process["env"])
    assert told["root"] == {"path": "/root-of-it", "readonly": True}
    writable = [each["destination"] for each in mounts(image["Volumes"]) if "ro" not in each.get("options", ())]
    assert writable == ["/proc", "/dev", "/dev/shm", "/tmp"]
    assert {"type": "pid"} in told["linux"]["namespaces"]


def test_the_parts_of_a_start_add_up_to_it() -> None:
    said = ["a first line", "model replica 0 serves", "KCL started, JVM pid 7", "shardId-0 starts after TRIM_HORIZON"]
    entries = [
        {"ts": f"1970-01-01T00:00:{second:02}.500+00:00", "msg": text}
        for second, text in zip((2, 4, 5, 9), said, strict=True)
    ]
    found = startup.parts(1.0, 1.25, entries, 10.0)
    assert list(found.values()) == [0.25, 1.25, 2.0, 1.0, 4.0, 0.5]
    assert sum(found.values()) == 10.0 - 1.0
    with pytest.raises(AssertionError, match="KCL: the JVM"):
        startup.parts(1.0, 1.25, entries[:-1], 10.0)


def test_a_layers_reason_is_the_comment_above_it() -> None:
    text = "# not this\nFROM a AS build\n# nor this\nRUN b\n\nFROM c\n# why\nCOPY d e\n# because\nRUN f\nENV g=h\n"
    assert reasons(text) == ["why", "because"]
    assert [len(reasons(path.read_text())) for path in FILES] == [7, 5]

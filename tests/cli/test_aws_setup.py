"""AWS that is not set up is one line with the right fix, for every command, and a red finding of the doctor."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from consumer.aws import setup_errors
from consumer.cli.options import ApplicationName, StreamName
from tests.cli.test_output import LEAVES
from tests.support.command_line import GOOD, penstock

SET = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
PROFILES = """
[profile source]
role_arn = arn:aws:iam::1:role/x
source_profile = nowhere
[profile command]
credential_process = /no/such/command
[profile sso]
sso_start_url = https://x
sso_region = us-east-1
sso_account_id = 1
sso_role_name = r
[profile half]
aws_access_key_id = x
"""

CASES: list[tuple[Mapping[str, str | None], str, str]] = [
    ({"AWS_PROFILE": "nope"}, "profile (nope) could not be found", "Set AWS_PROFILE to a profile"),
    ({"AWS_CONFIG_FILE": "BROKEN"}, "Unable to parse config file", setup_errors.FILE),
    ({"AWS_SHARED_CREDENTIALS_FILE": "BROKEN"}, "Unable to parse config file", setup_errors.FILE),
    ({"AWS_REGION": None}, "You must specify a region. ", setup_errors.REGION),
    ({"AWS_REGION": "US EAST"}, "'US EAST' doesn't match", setup_errors.REGION),
    ({"AWS_ENDPOINT_URL": "127.0.0.1:4566"}, "127.0.0.1:4566", setup_errors.ENDPOINT),
    ({"AWS_ENDPOINT_URL": "ftp://127.0.0.1:1"}, "ftp://127.0.0.1:1 is not an endpoint", setup_errors.ENDPOINT),
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:99999"}, ":99999", setup_errors.ENDPOINT),
    ({"AWS_SECRET_ACCESS_KEY": None}, "missing: AWS_SECRET_ACCESS_KEY", setup_errors.KEYS),
    ({"AWS_SECRET_ACCESS_KEY": "very\nsecret"}, "the secret key contains", "Copy it again"),
    ({"AWS_STS_REGIONAL_ENDPOINTS": "x"}, "STS regional endpoints", "Correct the variable AWS_…"),
    ({"AWS_METADATA_SERVICE_TIMEOUT": "x", **NO_KEYS}, "'x'", setup_errors.PROFILE),
    ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nope", "AWS_ROLE_ARN": "x", **NO_KEYS}, "'/nope'", setup_errors.PROFILE),
    ({"AWS_PROFILE": "source", **NO_KEYS}, 'source_profile "nowhere"', "Correct the variable AWS_…, or the key in"),
    ({"AWS_PROFILE": "command", **NO_KEYS}, "'/no/such/command'", setup_errors.PROFILE),
    ({"AWS_PROFILE": "sso", **NO_KEYS}, "SSO Token", "Log in again"),
    ({"AWS_PROFILE": "half", **NO_KEYS}, "missing: aws_secret_access_key", setup_errors.KEYS),
]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """``penstock run`` configures it."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "broken").write_text("not an ini [\n=x")
    (tmp_path / "profiles").write_text(PROFILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "profiles"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in SET.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(("changed", "problem", "fix"), CASES)
def test_what_is_wrong_is_one_line_with_its_fix(
    changed: Mapping[str, str | None], problem: str, fix: str, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    for name, value in changed.items():
        environment.delenv(name) if value is None else environment.setenv(
            name, value.replace("BROKEN", str(tmp_path / "broken"))
        )
    result = penstock("status", "--stream", "events", "--application", "events-app")
    assert result.exit_code == 2, result.exception
    [line] = result.stderr.splitlines()
    assert line.startswith("penstock: AWS is not set up: ") and problem in line and fix in line
    assert ".. " not in line and not line.endswith("..") and "very" not in line


COMMANDS = [
    "run --config penstock.toml",
    "put records.jsonl --stream events",
    "tail --stream events",
    "status --config penstock.toml",
    "audit s3://bucket/p",
    "diff s3://bucket/p s3://bucket/q",
    "leases list --config penstock.toml",
    "shards list --stream events",
    "replay --config penstock.toml --rewind --by 2h",
    "dead-letters list --url s3://bucket/p",
    "tune --config penstock.toml",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_says_it_alike(words: str, tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text(GOOD + "[health]\nport = 0\n")
    (tmp_path / "records.jsonl").write_text("{}\n")
    environment.setenv("AWS_PROFILE", "nope")
    result = penstock(*words.split())
    assert result.exit_code == 2, result.exception
    assert "Traceback" not in result.stderr
    assert "The config profile (nope) could not be found. Set AWS_PROFILE" in result.stderr.splitlines()[-1]


def test_the_doctor_finds_it(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD)
    environment.setenv("AWS_PROFILE", "nope")
    result = penstock("doctor", "--config", path, "--no-load")
    assert result.exit_code == 1, result.exception
    found = [line for line in result.stdout.splitlines() if "profile (nope)" in line]
    assert found and all(line.startswith("red") and "-> Set AWS_PROFILE" in line for line in found)


@pytest.mark.parametrize("name", ["arn:aws:kinesis:us-east-1:123456789012:stream/events", "a b", "", "x" * 129])
def test_every_option_for_a_stream_or_an_application_takes_names_alone(name: str) -> None:
    options = [
        (path, each)
        for path, command in LEAVES.items()
        for each in command.params
        if isinstance(each, click.Option) and each.opts[0] in ("--stream", "--application")
    ]
    assert len(options) >= 20
    for path, option in options:
        assert isinstance(option.type, StreamName if option.opts[0] == "--stream" else ApplicationName), path
    result = penstock("leases", "list", "--application", "events-app", "--stream", name)
    assert result.exit_code == 2 and result.stderr.startswith(f'penstock: --stream: "{name}" is ')
    assert ('Write "events"' in result.stderr) is name.startswith("arn:")

"""`.ci/audit` with an OSV server that knows a vulnerability, knows none, breaks off, or cannot be reached."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".ci" / "audit"
OFFLINE_S = 8
PINS = len({pin for path in ROOT.glob("requirements*.lock") for pin in re.findall(r"(?m)^\S+==\S+", path.read_text())})

Answer = Callable[[str, str], Any]
"""The server's answer for a package's version; None: the connection is closed."""


def advisory(name: str, number: str) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "99.0"}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": f"PYSEC-{number}", "aliases": [f"CVE-{number}"], "summary": "bad", "affected": [affected]}


def old_jinja(name: str, version: str) -> Any:
    return {"vulns": [advisory(name, "2019-217")]} if (name, version) == ("jinja2", "2.4.1") else {}


@contextmanager
def osv(answer: Answer) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The address of the server, and the requests that it has received."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((query["package"]["name"], query["version"]))
            known = answer(*asked[-1])
            if known is None:
                return
            body = known if isinstance(known, bytes) else json.dumps(known).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
        finally:
            server.shutdown()
            serving.join()


def audit(url: str, script: Path = SCRIPT) -> tuple[int, list[str]]:
    """The exit status, and all output including errors."""
    environment = {**os.environ, "PENSTOCK_OSV_URL": url, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_where_nothing_is_known_it_is_silent_and_has_asked_about_every_pin() -> None:
    with osv(old_jinja) as (url, asked):
        assert audit(url) == (0, [])
    assert len(asked) == len(set(asked)) == PINS + 1
    assert {"torch", "boto3", "pytest"} <= {name for name, _ in asked}


def locked(folder: Path, **pins: str) -> Path:
    """The script, below a folder with a lock for each name; the pins of the real ones take a while."""
    script = folder / ".ci" / "audit"
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    for name, text in pins.items():
        (folder / f"{name}.lock").write_text(text)
    return script


def test_a_known_vulnerability_fails_the_check_and_is_named(tmp_path: Path) -> None:
    def answer(name: str, version: str) -> Any:
        return {"vulns": [advisory(name, "2099-1")]} if name == "orjson" else old_jinja(name, version)

    with osv(answer) as (url, _):
        status, lines = audit(url, locked(tmp_path, requirements="click==8.1.8\norjson==3.10.0\n"))
    assert status == 1
    assert re.fullmatch(r"orjson \S+: PYSEC-2099-1 \(CVE-2099-1\), fixed in 99\.0", lines[0])
    assert len(lines) == 2


def expect_passed_over(url: str, why: str, script: Path = SCRIPT) -> None:
    began = time.monotonic()
    status, lines = audit(url, script)
    assert status == 0
    assert len(lines) == 1 and lines[0].startswith("pip-audit: dependencies are not audited") and why in lines[0]
    assert time.monotonic() - began < OFFLINE_S


def test_without_a_network_it_says_so_in_one_line_and_goes_on() -> None:
    expect_passed_over("http://127.0.0.1:9/v1/query", "refused")
    expect_passed_over("http://osv.invalid/v1/query", "")


def test_an_osv_server_without_known_vulnerabilities_is_not_believed() -> None:
    with osv(lambda name, version: {}) as (url, _):
        expect_passed_over(url, "it knows nothing")
    with osv(lambda name, version: b"<html>log in first</html>") as (url, _):
        expect_passed_over(url, "Expecting value")


def test_a_service_that_breaks_off_is_not_believed_either(tmp_path: Path) -> None:
    script = locked(tmp_path, requirements="click==8.1.8\norjson==3.10.0\n")
    with osv(lambda name, version: None if name > "k" else old_jinja(name, version)) as (url, _):
        expect_passed_over(url, "it stopped answering", script)


def test_locks_that_contradict_each_other_fail_the_check_and_are_not_blamed_on_the_service(tmp_path: Path) -> None:
    script = locked(tmp_path, **{"requirements": "click==8.1.8\n", "requirements-dev": "click==8.1.7\n"})
    with osv(old_jinja) as (url, _):
        status, [line] = audit(url, script)
    assert status == 1
    assert line.startswith("pip-audit fails before it asks") and "click" in line


def test_ignored_vulnerabilities_have_a_reason() -> None:
    for number, reason in runpy.run_path(str(SCRIPT))["IGNORED"].items():
        assert re.match(r"(PYSEC|CVE|GHSA)-", number) and len(reason.split()) > 3

"""Pages of other sites cannot reach the local AWS, by any host name."""

from __future__ import annotations

import pytest

from consumer.local.origin import is_loopback, refusal
from consumer.local.server import up
from pipeline.errors import UserError

FAULTS, RESET, BUCKET = "/_penstock/faults", "/moto-api/reset", "/bucket/key"
OURS = [
    "127.0.0.1:4566",
    "localhost:4566",
    "LOCALHOST",
    "[::1]:4566",
    "172.17.0.2:4566",
    "localaws:4566",
    "localhost",
    "host.docker.internal:4566",
]
FOREIGN = ["evil.example", "evil.example:4566", "127.0.0.1.nip.io", "127.0.0.1@evil.example", "localhost.evil.example"]
NO_HOST = ["", ":4566", "[::1", "[]:80"]


@pytest.mark.parametrize("path", [FAULTS, RESET])
def test_only_requests_that_name_this_machine_control_it(path: str) -> None:
    for host in OURS:
        assert refusal(path, {"host": host}) is None, host
    for host in (*FOREIGN, *NO_HOST):
        assert refusal(path, {"host": host}) is not None, host
    assert refusal(path, {}) is not None


def test_the_name_that_the_server_listens_on_is_its_own() -> None:
    assert refusal(FAULTS, {"host": "aws.test:4566"}, bound="AWS.test") is None
    assert refusal(FAULTS, {"host": "evil.example"}, bound="aws.test") is not None


@pytest.mark.parametrize("path", [FAULTS, RESET])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "https://127.0.0.1", ""])
def test_only_its_own_pages_control_it(path: str, origin: str) -> None:
    headers = {"host": "127.0.0.1:4566"}
    assert refusal(path, {**headers, "origin": "http://127.0.0.1:4566"}) is None
    assert refusal(path, {**headers, "origin": origin}) is not None


def test_a_browser_that_says_cross_site_is_believed() -> None:
    for site, allowed in (("same-origin", True), ("none", True), ("cross-site", False), ("same-site", False)):
        assert (refusal(FAULTS, {"host": "localhost", "sec-fetch-site": site}) is None) == allowed


def test_aws_itself_is_not_read_by_a_link_or_image_of_another_site() -> None:
    for site, allowed in (("same-origin", True), ("none", True), ("same-site", True), ("cross-site", False)):
        for path in ("/", BUCKET):
            assert (refusal(path, {"host": "localhost", "sec-fetch-site": site}) is None) == allowed
    local = {"host": "127.0.0.1", "sec-fetch-site": "cross-site", "origin": "http://localhost:3000"}
    assert refusal("/", local) is None


def test_aws_itself_is_used_under_any_name_but_by_no_foreign_page() -> None:
    for host in ("bucket.s3.amazonaws.com", "bucket.localhost:4566", *OURS):
        assert refusal(BUCKET, {"host": host}) is None
    for origin in ("http://localhost:3000", "https://localhost", "http://127.0.0.1:8080", "http://app.localhost"):
        assert refusal(BUCKET, {"host": "localhost", "origin": origin}) is None
    for origin in ("http://evil.example", "null", "http://127.0.0.1.nip.io", "http://203.0.113.7", ""):
        assert refusal(BUCKET, {"host": "localhost", "origin": origin}) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_the_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "penstock.example", "", "localhostx"])
def test_nothing_else_is_the_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "not a host", f"{'a' * 64}.b"])
def test_a_host_without_an_address_is_named_as_such(host: str) -> None:
    with pytest.raises(UserError, match=rf"^Cannot listen on {host}: .*Use an address of this machine\.$"):
        up(host, 0, limits=True)

"""The policy of a task compared with KCL's own code, and the modes of its files."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from consumer.config.settings import HealthSettings, KclSettings, StreamSettings
from consumer.http.health import Health
from consumer.kcl.bridge_server import BridgeServer
from consumer.kcl.daemon import Daemon
from consumer.kcl.java import find_jars
from consumer.kcl.properties import AwsEndpoints
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Wire
from pipeline.metrics import Metrics
from tests.support import iam_policy as policy

DEADLINE_S = 20
CLIENT = re.compile(r"software/amazon/awssdk/services/(dynamodb|kinesis|cloudwatch|sts)/\w+Client")
OF_THE_SDK = {"Builder", "Close", "ServiceName", "ServiceClientConfiguration", "Waiter"}
"""Methods of clients that make no call."""


def test_every_action_is_named_and_none_deletes_what_holds_records() -> None:
    assert policy.actions()
    for action in policy.actions():
        assert re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", action), action
    assert not [action for action in policy.actions() if "Delete" in action and action != "dynamodb:DeleteItem"]


def test_every_resource_is_named_but_the_one_that_iam_has_no_name_for() -> None:
    for statement in policy.statements():
        assert statement["Effect"] == "Allow" and "NotAction" not in statement
        if statement["Resource"] == ["*"]:
            assert statement["Action"] == ["cloudwatch:PutMetricData"]
            assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "APPLICATION"}}
        else:
            assert "Condition" not in statement  # a key that a call lacks refuses it, and the local AWS asks no policy
            for resource in statement["Resource"]:
                assert re.fullmatch(r"arn:aws:\w+:(REGION:ACCOUNT|:):?[\w./-]+(/\*)?", resource), resource
                assert "/*" not in resource or resource.startswith("arn:aws:s3:::BUCKET/")


def test_every_action_has_its_reason_and_no_other_has() -> None:
    assert set(policy.explained()) == policy.actions()
    assert set(policy.explained().values()) == {"always", "sometimes"}


def test_kcl_can_call_nothing_else() -> None:
    """From byte code: each operation that KCL's classes may call is permitted, or left out for a reason."""
    permitted = {action.partition(":")[2] for action in policy.actions()}
    callable_ = {operation for operation in kcl_operations() if operation not in OF_THE_SDK}
    assert {"GetRecords", "UpdateItem", "PutMetricData", "DescribeStreamSummary"} <= callable_
    assert callable_ - permitted == policy.left_out()


def test_bridges_and_their_folder_are_private_for_any_umask() -> None:
    with umask(0):
        daemon = Daemon(
            KclSettings(),
            StreamSettings(name="private", application="private"),
            "worker",
            AwsEndpoints("us-east-1", "http://127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9"),
        )
        folder, modes = daemon.socket_path.parent, {}

        async def listen() -> None:
            bridges = BridgeServer(no_session)
            await bridges.listen(daemon.socket_path)
            modes["socket"] = daemon.socket_path.stat().st_mode
            modes["folder"] = folder.stat().st_mode
            assert folder.stat().st_uid == os.getuid()
            await bridges.close()
            await daemon.close()

        asyncio.run(listen())
    assert stat.S_ISSOCK(modes["socket"])
    assert {name: oct(stat.S_IMODE(mode)) for name, mode in modes.items()} == {"socket": "0o600", "folder": "0o700"}
    assert not folder.exists()


def test_the_health_page_listens_only_on_loopback_by_default() -> None:
    """All of 127.0.0.0/8 is this machine: a server that listens on every address answers at all of them."""

    async def ask() -> None:
        async with Health(HealthSettings(port=0), Metrics(), lambda: None, lambda: None) as health:
            _, writer = await asyncio.open_connection("127.0.0.1", health.port)
            writer.close()
            await writer.wait_closed()
            with pytest.raises(OSError, match=r"127\.0\.0\.2"):
                await asyncio.open_connection("127.0.0.2", health.port)

    asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))


def no_session(wire: Wire) -> ShardSession:
    raise AssertionError("nobody connects")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# -- what classes call


def kcl_operations() -> set[str]:
    """Every AWS operation that a class of KCL or of its lock contains a call of, by the name that AWS uses."""
    found = set()
    for jar in [*find_jars().glob("amazon-kinesis-client-*.jar"), *find_jars().glob("dynamodb-lock-client-*.jar")]:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.endswith(".class") and b"Client" in (data := archive.read(name)):
                    found |= {
                        method[0].upper() + method[1:]
                        for owner, method in methods_called(data)
                        if CLIENT.fullmatch(owner)
                    }
    return found


SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
"""Size of a constant's content, by its tag (JVM specification, table 4.4-A)."""
CLASS, METHODS, NAME_AND_TYPE, TEXT = 7, {10, 11}, 12, 1
WIDE = {5, 6}


def methods_called(data: bytes) -> set[tuple[str, str]]:
    """The methods in a class file's constants: ``(class, name)`` (JVM specification, section 4.4)."""
    assert data[:4] == b"\xca\xfe\xba\xbe"
    count, place, number = int.from_bytes(data[8:10]), 10, 1
    constants: dict[int, tuple[int, bytes]] = {}
    while number < count:
        tag, place = data[place], place + 1
        size = SIZES.get(tag, 0)
        if tag == TEXT:
            size, place = int.from_bytes(data[place : place + 2]), place + 2
        constants[number] = (tag, data[place : place + size])
        place, number = place + size, number + (2 if tag in WIDE else 1)

    def text(index: int) -> str:
        return constants[index][1].decode("utf-8", "replace")

    called = set()
    for tag, content in constants.values():
        if tag in METHODS:
            owner, named = struct.unpack(">HH", content)
            called.add((text(int.from_bytes(constants[owner][1])), text(struct.unpack(">HH", constants[named][1])[0])))
    return called

"""What botocore reads of AWS's services is the same as with its own reader, for fewer calls of the file system."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader, create_loader

from consumer.aws import descriptions

SERVICES = ("kinesis", "dynamodb", "cloudtrail")
TYPES = ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2")
OTHERS = ("endpoints", "partitions", "sdk-default-configuration", "_retry")


fresh = descriptions.loader.__wrapped__
"""Not the one of this process: a client may change what it has been given."""


def found(loader: Loader, service: str, kind: str) -> Any:
    try:
        return loader.load_service_model(service, kind)
    except UnknownServiceError:
        return None


@pytest.mark.parametrize("service", [*SERVICES, "no-such-service"])
def test_a_service_is_described_as_by_botocore(service: str) -> None:
    ours, theirs = fresh(None), create_loader()
    for kind in TYPES:
        assert found(ours, service, kind) == found(theirs, service, kind), kind


def test_so_is_what_all_services_share() -> None:
    ours, theirs = fresh(None), create_loader()
    for name in OTHERS:
        assert ours.load_data(name) == theirs.load_data(name)


def test_a_users_own_description_comes_first(tmp_path: Path) -> None:
    folder = tmp_path / "kinesis" / "2099-01-01"
    folder.mkdir(parents=True)
    (folder / "service-2.json").write_text(json.dumps({"metadata": {"apiVersion": "2099-01-01"}}))

    assert descriptions.loader(f"/nowhere{os.pathsep}{tmp_path}").load_service_model("kinesis", "service-2") == {
        "metadata": {"apiVersion": "2099-01-01"}
    }


def test_the_folders_of_other_services_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    listdir = os.listdir

    def look(path: str) -> list[str]:
        looked.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", look)

    fresh(None).load_service_model("kinesis", "service-2")

    assert len(looked) < 10

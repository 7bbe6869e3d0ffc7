"""Records to tune with, from files of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.tuning.samples import LENGTHS, from_file
from pipeline.errors import UserError

BINARY = [b"\n\r \0", b"", bytes(range(256)), b"\n"]


def framed(records: list[bytes]) -> bytes:
    return b"".join(len(data).to_bytes(4, "big") + data for data in records)


def test_records_of_a_file_have_no_partition_key(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert [record.partition_key for record in from_file(tmp_path / "a", 1)] == [None]


def read(path: Path, count: int = 10, framing: str = "lines") -> list[bytes]:
    return sorted(record.data for record in from_file(path, count, framing))


def test_a_line_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n\n two \r\nthree")
    assert read(tmp_path / "a") == [b"one", b"three", b"two"]


def test_binary_records_follow_their_lengths_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(framed(BINARY))
    assert read(tmp_path / "a", framing=LENGTHS) == sorted(BINARY)
    assert len(read(tmp_path / "a", 2, LENGTHS)) == 2


def test_each_file_of_a_folder_is_a_record(tmp_path: Path) -> None:
    for number, data in enumerate(BINARY):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    assert read(tmp_path) == sorted(BINARY)
    assert read(tmp_path, 1) == [BINARY[0]]


def test_a_folder_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match=r"has folders in it, such as sub\. Name each folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("data", "place"), [(framed(BINARY)[:-1], 272), (framed([b"abc"]) + b"\0", 7), (b"a line\n" * 9, 0)]
)
def test_wrong_framing_is_one_line_with_the_position(data: bytes, place: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UserError, match=f"a: at byte {place} .* --framing") as raised:
        read(tmp_path / "a", framing=LENGTHS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("framing", ["lines", LENGTHS])
def test_no_records_are_one_line(framing: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a").touch()
    for path in (tmp_path / "empty", tmp_path / "a"):
        with pytest.raises(UserError, match="has no records"):
            read(path, framing=framing)
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "nowhere", framing=framing)

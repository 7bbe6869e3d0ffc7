"""Records from standard input."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from consumer.tuning.samples import LENGTHS, LINES, STDIN, payloads_in
from pipeline.errors import UserError


@pytest.mark.parametrize(("framing", "data"), [(LINES, b""), (LENGTHS, b"\x00\x00"), (LENGTHS, b"")])
def test_standard_input_is_called_by_its_name(framing: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    with pytest.raises(UserError, match=r"^standard input: "):
        payloads_in(STDIN, 10, framing)

"""The options of ``penstock replay``, and the rate, which other commands have, too."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from consumer.cli import main
from tests.cli.replay.world import STREAM, replay


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--from-jsonl", "x", "--url", "out"), "--url has no effect with an archive"),
        (("--from-jsonl", "x", "--key", "user"), "--key has an effect only with --from-parquet"),
        (("--from-jsonl", "x", "--payload", "body"), "--payload has an effect only with --from-parquet"),
        (("--application", "app", "--rewind", "--by", "1h", "--rate", "5"), "--rate has no effect with --rewind"),
    ],
)
def test_an_option_of_another_way_is_a_mistake(words: tuple[str, ...], says: str) -> None:
    found = replay("--stream", STREAM, *words)
    assert (found.exit_code, says in found.stderr) == (2, True), found.output


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "0", "-1", "1e-9", "many"])
@pytest.mark.parametrize(
    "command",
    [
        ("put", "--stream", "no-such"),
        ("replay", "--stream", "no-such"),
        ("dead-letters", "redrive", "--config", "no-such"),
    ],
)
def test_a_rate_is_a_finite_number_above_zero(command: tuple[str, ...], rate: str) -> None:
    found = CliRunner().invoke(main, [*command, "--rate", rate], input="")
    assert found.exit_code == 2 and "Invalid value for '--rate'" in found.stderr, found.output


@pytest.mark.parametrize(("rate", "text"), [(50.0, "50"), (0.001, "0.001"), (1_000_000.0, "1000000"), (2.5, "2.5")])
def test_a_rate_is_written_without_an_exponent(rate: float, text: str) -> None:
    from consumer.cli.options import rate_text

    assert rate_text(rate) == text

"""The calculation of a drain: what fits, what does not, and that the sum is shown."""

from typing import Any

import pytest

from consumer.config import drain
from consumer.config.load import parse
from consumer.config.settings import Settings
from pipeline.errors import ConfigError, UserError
from pipeline.replicas.process import DEPTH

MODEL = {"factory": "a:B", "version": "1"}


def settings(**sections: dict[str, Any]) -> Settings:
    return parse(
        {
            "stream": {"name": "events", "application": "app"},
            "model": MODEL,
            "sink": [{"type": "parquet", "url": "out"}],
            "dead_letter": {"url": "dead"},
            **sections,
        }
    )


def test_a_drain_waits_for_as_many_batches_as_a_replica_is_given() -> None:
    assert drain.HANDED == DEPTH


def test_batches_that_fit_are_accepted_with_the_calculation() -> None:
    total = drain.check(settings(), example_s=0.5)
    assert total is not None and total.fits
    assert total.needed_s == 2 * 64 * 0.5 + 5 + 2
    assert "= 71 s" in str(total)


def test_batches_too_long_for_the_grace_are_refused_with_the_sum_and_the_most_that_would_fit() -> None:
    with pytest.raises(ConfigError) as refused:
        drain.check(settings(batch={"adaptive": False}), example_s=0.65)
    assert str(refused.value) == (
        "kcl.shutdown_grace_s: a drain may take 2 batches of 41.6 s (batch.max_records 64 x 0.65 s, the duration of "
        "the model's example) + drain.flush_s 5 s + checkpoint 2 s = 90.2 s, but the limit is 80 s. "
        "Set batch.max_records to 56 or less; or, if a full batch takes less time, set drain.longest_batch_s to its "
        "duration"
    )
    drain.check(settings(batch={"adaptive": False, "max_records": 56}), example_s=0.65)


@pytest.mark.parametrize("example_s", [0.65, 1.0, 20.0, 36.0])
def test_a_slow_model_starts_with_default_settings_since_batches_are_learnt(example_s: float) -> None:
    total = drain.check(settings(), example_s=example_s)
    assert total is not None and total.fits
    assert total.batch_s == max(example_s, 0.8 * 36.5)
    assert drain.check_timeout(settings(), example_s=example_s) is None or 64 * example_s > 120


def test_one_record_too_long_for_the_grace_is_refused_for_any_batch() -> None:
    with pytest.raises(ConfigError, match="Raise kcl"):
        drain.check(settings(), example_s=50)


def test_a_configured_duration_of_a_batch_is_used() -> None:
    total = drain.check(settings(drain={"longest_batch_s": 2.5}), example_s=50)
    assert total is not None and total.needed_s == 2 * 2.5 + 5 + 2


def test_a_model_without_an_example_cannot_be_checked_before_it_works() -> None:
    assert drain.check(settings(), example_s=None) is None


def test_an_example_longer_than_the_timeout_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        drain.check_timeout(settings(model={**MODEL, "timeout_s": 1}), example_s=1.5)
    assert str(refused.value) == (
        "model.timeout_s: the model's example alone takes 1.5 s, more than 1 s. Raise it: every record would time out"
    )


def test_full_batches_longer_than_the_timeout_are_reported_with_the_calculation() -> None:
    short = {**MODEL, "timeout_s": 1}
    said = drain.check_timeout(settings(model=short), example_s=0.1)
    assert said is not None and "batch.max_records 64 x 0.1 s" in said and "= 6.4 s, more than" in said
    assert drain.check_timeout(settings(model=short), example_s=0.01) is None
    assert drain.check_timeout(settings(model=short), example_s=None) is None
    assert drain.check_timeout(settings(model=short, drain={"longest_batch_s": 0.5}), example_s=0.1) is None


def test_a_batch_that_is_said_to_outlast_the_timeout_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"a full batch takes 2 s, longer than model\.timeout_s \(1 s\)"):
        settings(model={**MODEL, "timeout_s": 1}, drain={"longest_batch_s": 2})
    settings(model={**MODEL, "timeout_s": 2}, drain={"longest_batch_s": 2})


def test_batches_that_have_become_too_long_are_reported() -> None:
    believed = drain.check(settings(), example_s=0.1)
    assert drain.outgrown(believed, 36.0, settings()) is None
    reason = drain.outgrown(believed, 37.0, settings())
    assert reason is not None and "37 s instead of 6.4 s" in reason and "= 81 s" in reason
    assert drain.outgrown(None, 37.0, settings()) is not None

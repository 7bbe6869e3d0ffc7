"""Outages: their duration, when to give up, and which are shown."""

from pipeline.outages import REFUSED_S, Outages


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_patience_ends_after_failures_in_a_row_and_not_before() -> None:
    clock = Clock()
    part = Outages(clock).part("sink", give_up_after_s=50)
    assert not part.failed("503")
    clock.now += 49
    assert not part.failed("503")
    clock.now += 1
    assert part.failed("503")


def test_one_success_resets_the_time_limit() -> None:
    clock = Clock()
    part = Outages(clock).part("sink", give_up_after_s=50)
    part.failed("503")
    clock.now += 49
    part.worked()
    clock.now += 49
    assert not part.failed("503")
    clock.now += 49
    assert not part.failed("503")


def test_a_refusal_may_last_a_minute_and_another_failure_resets_it() -> None:
    clock = Clock()
    part = Outages(clock).part("sink", give_up_after_s=3600)
    assert not part.failed("AccessDenied", refused=True)
    clock.now += REFUSED_S - 1
    assert not part.failed("503")
    clock.now += 2
    assert not part.failed("AccessDenied", refused=True)
    clock.now += REFUSED_S
    assert part.failed("AccessDenied", refused=True)


def test_of_a_sinks_shards_the_one_with_the_least_time_left_is_shown() -> None:
    clock = Clock()
    outages = Outages(clock)
    first, second = outages.part("sink", 3600), outages.part("sink", 3600)
    other = outages.part("model", 100)
    first.failed("503")
    clock.now += 10
    second.failed("500")
    other.failed("does not start")
    clock.now += 5
    assert [(each.part, each.reason, each.lasted_s) for each in outages.current()] == [
        ("model", "does not start", 5),
        ("sink", "503", 15),
    ]
    assert str(outages.current()[0]) == "model: does not start (for 5 s; the task ends in 95 s)"
    first.worked()
    assert [each.reason for each in outages.current()] == ["does not start", "500"]

"""Tests wait for conditions, within a deadline; only those that are listed here wait for a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
ELSEWHERE = ("chaos", "soak", "simulation")
"""Long runs, which need time; and simulated time, in which ``time.sleep`` fails."""

LOOKS = "between two checks of a state whose changes cannot be awaited"
WORK = "a model that works or hangs for that long"
CLOCK = "the test waits for the wall clock"
NOTHING = "an event that must not happen gets time to happen"
SIMULATED = "simulated time"

ALLOWED = {
    "cli/replay/world.py: World.next_second": CLOCK,
    "cli/replay/world.py: World.pause": CLOCK,
    "cli/test_status_terminal.py: Terminal.drawing": LOOKS,
    "contract/admin/test_shards_command.py: test_the_load_comes_from_cloudwatch_where_shard_metrics_are_enabled": LOOKS,
    "contract/http/test_health_storm.py: test_500_silent_connections_cost_a_few_descriptors_and_no_answer": NOTHING,
    "contract/http/test_health_storm.py: "
    "test_the_host_keeps_working_during_request_storms": "processor time is measured meanwhile",
    "contract/http/test_health_storm.py: test_clients_that_do_not_read_the_answer_are_closed": LOOKS,
    "contract/http/test_health_storm.py: "
    "test_without_descriptors_no_connection_is_accepted_the_log_stays_short_and_it_comes_right": NOTHING,
    "contract/kcl/test_aggregator.py: test_a_jvm_that_reads_a_shard_without_having_loaded_it_ends_the_task": NOTHING,
    "contract/kcl/test_daemon.py: soon": LOOKS,
    "contract/kcl/test_daemon.py: until": LOOKS,
    "contract/kinesis_behaviours.py: millis_behind_latest_is_0_at_the_tip_only": "what is measured is time",
    "contract/life/test_pid_one.py: program_of": LOOKS,
    "contract/local/test_local_conditional.py: slow": "between a request's condition and its write",
    "contract/replicas/test_replica_surroundings.py: wait_until": LOOKS,
    "contract/security/test_payloads_stay_private.py: "
    "test_a_device_that_is_lost_for_good_ends_the_task_without_the_payload": LOOKS,
    "contract/security/test_payloads_stay_private.py: "
    "test_payloads_that_fail_are_in_the_dead_letters_and_nowhere_else": LOOKS,
    "contract/security/test_sinks_keep_payloads_private.py: "
    "test_rows_that_a_sink_cannot_carry_are_reported_without_their_content": LOOKS,
    "e2e/models.py: Loading.load": WORK,
    "e2e/models.py: Moody.predict": WORK,
    "e2e/models.py: Paced.predict": WORK,
    "e2e/models.py: Steady.predict": WORK,
    "e2e/rig.py: wait_until": LOOKS,
    "e2e/test_operations.py: Day._watched": "someone looks at a live screen",
    "e2e/replay_slice.py: a_moment": CLOCK,
    "e2e/test_rewind_online.py: test_an_application_is_moved_back_while_it_runs": CLOCK,
    "support/dying_task.py: Dying._hand_over": "a bridge dies within a message, or with its task",
    "support/hosts.py: until": LOOKS,
    "support/models.py: ": WORK,
    "support/models.py: HangsLoading.load": WORK,
    "support/models.py: LeavesDaemons.load": LOOKS,
    "support/models.py: leave_child": WORK,
    "support/payload_markers.py: ": WORK,
    "support/streams.py: until": LOOKS,
    "unit/kcl/test_bounded_session.py: Rig.until": SIMULATED,
    "support/session_rig.py: SlowJudge.settle": SIMULATED,
    "support/session_rig.py: filling": SIMULATED,
    "unit/replicas/test_blame.py: test_no_record_is_tried_beside_one_that_is_tried_alone": WORK,
    "unit/replicas/test_blame.py: test_records_beside_a_killer_are_not_blamed": WORK,
    "unit/replicas/test_pool.py: test_a_cancelled_request_frees_its_place_when_it_is_answered": SIMULATED,
    "unit/testing/test_fake_worker.py: test_a_shard_that_is_handed_off_may_come_back": SIMULATED,
    "unit/testing/test_fake_worker.py: test_a_worker_reads_its_shards_and_checkpoints_them": SIMULATED,
    "unit/testing/test_fake_worker.py: test_children_are_read_once_their_parent_has_ended": SIMULATED,
    "unit/testing/test_fake_worker.py: test_throttled_calls_are_made_again": SIMULATED,
    "unit/testing/test_fake_worker.py: test_workers_share_the_leases_and_take_over_those_of_the_dead": SIMULATED,
    "unit/testing/test_simulated.py: test_a_call_continues_when_nothing_waits_for_it_any_more": SIMULATED,
    "unit/testing/test_simulated.py: test_an_hour_is_over_at_once": SIMULATED,
    "unit/testing/test_simulated.py: "
    "test_others_go_on_in_the_middle_of_a_blocking_call_which_ends_with_its_process": SIMULATED,
    "unit/testing/test_simulated.py: test_processes_share_time_and_not_their_clocks": SIMULATED,
    "unit/testing/test_simulated.py: ticks": SIMULATED,
}
"""Calls of ``time.sleep`` or ``asyncio.sleep`` with more than 0: the file, the function, and the reason."""


def test_only_listed_functions_wait_for_a_time() -> None:
    paths = (path for path in TESTS.rglob("*.py") if path.relative_to(TESTS).parts[0] not in ELSEWHERE)
    found = {f"{path.relative_to(TESTS).as_posix()}: {each}" for path in paths for each in sleepers(path.read_text())}
    assert found == set(ALLOWED)


def test_a_sleep_is_found_wherever_it_stands() -> None:
    text = (
        "import asyncio, time\nfrom time import sleep\n"
        "def a():\n    def b():\n        time.sleep(1)\n"
        "class C:\n    async def d(self):\n        await asyncio.sleep(x)\n        await asyncio.sleep(0)\n"
        "def e():\n    sleep(0.1)\n"
    )
    assert list(sleepers(text)) == ["a", "C.d", "e"]


def sleepers(text: str) -> Iterator[str]:
    """The functions of a module that sleep; methods with their class, inner functions as the one around them."""
    if "sleep" not in text:
        return
    for node in ast.parse(text).body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if any(map(_sleeps, ast.walk(part))):
                names = [getattr(each, "name", "") for each in dict.fromkeys((node, part))]
                yield ".".join(filter(None, names))


def _sleeps(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and bool(node.args)
        and ast.unparse(node.func) in {"sleep", "time.sleep", "asyncio.sleep"}
        and ast.unparse(node.args[0]) != "0"
    )

"""KCL's properties: those that Penstock sets, those that users may add, and the text of the file."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.config.kcl_properties import check, start_time_s
from consumer.config.known_kcl_properties import KNOWN_PROPERTIES
from consumer.config.settings import KclSettings, StreamSettings
from consumer.kcl.properties import AwsEndpoints, properties, render
from pipeline.errors import ConfigError

WHOLE_TYPES = ("int", "long", "integer")
COMMAND = "/usr/bin/python -I -S /bridge.py /run/host.sock"
STREAM = StreamSettings(name="events", application="app")


def ours(place: AwsEndpoints | None = None, start: str = "TRIM_HORIZON", **kcl: Any) -> dict[str, Any]:
    stream = STREAM.model_copy(update={"start": start})
    return properties(KclSettings(**kcl), stream, "worker-1", COMMAND, place or AwsEndpoints())


def complaint(name: str, value: str | int | bool = 1) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check({name: value})
    assert caught.value.key == f"[kcl.properties] {name}"
    return caught.value


def test_everything_we_set_is_known_to_kcl() -> None:
    place = AwsEndpoints("eu-west-1", "http://k", "http://d", "http://c")
    assert set(ours(place, max_leases=4)) <= set(KNOWN_PROPERTIES)
    assert set(ours(place, "2026-01-31T08:00:00Z")) <= set(KNOWN_PROPERTIES)


def test_settings_become_properties() -> None:
    values = ours(failover_ms=7_000, idle_between_reads_ms=300, max_leases=4, shutdown_grace_s=12.5)
    assert values["failoverTimeMillis"] == 7_000
    assert values["idleTimeBetweenReadsInMillis"] == 300
    assert values["maxLeasesForWorker"] == 4
    assert values["shutdownGraceMillis"] == 12_500
    assert (values["streamName"], values["applicationName"]) == ("events", "app")
    assert (values["workerId"], values["executableName"]) == ("worker-1", COMMAND)


def test_records_are_polled_for_and_empty_calls_carry_checkpoints() -> None:
    values = ours()
    assert values["retrievalMode"] == "POLLING"
    assert values["callProcessRecordsEvenForEmptyRecordList"] is True


def test_kcl_does_not_look_up_its_shard_before_it_hands_records_on() -> None:
    """KCL would skip the records if it could not list the shards."""
    assert ours()["skipShardSyncAtWorkerInitializationIfLeasesExist"] is True
    assert "it cannot be set" in complaint("skipShardSyncAtWorkerInitializationIfLeasesExist").problem


def test_without_a_limit_kcl_gets_none() -> None:
    assert "maxLeasesForWorker" not in ours(max_leases=0)


def test_a_handoff_outlasts_the_drain_of_a_shard() -> None:
    assert ours(shutdown_grace_s=60)["gracefulLeaseHandoffTimeoutMillis"] > 60_000
    assert ours(shutdown_grace_s=1)["gracefulLeaseHandoffTimeoutMillis"] == 30_000


def test_a_users_property_wins_over_our_default() -> None:
    assert ours(properties={"leaseAssignmentIntervalMillis": 9_000})["leaseAssignmentIntervalMillis"] == 9_000


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST"])
def test_a_start_by_name_is_passed_by_name(start: str) -> None:
    values = ours(start=start)
    assert values["initialPositionInStream"] == start
    assert "initialPositionInStreamExtended" not in values


def test_a_start_by_time_is_in_epoch_seconds_rounded_down() -> None:
    values = ours(start="2026-01-31T09:00:00.900+01:00")
    assert values["initialPositionInStreamExtended"] == 1_769_846_400
    assert "initialPositionInStream" not in values


@pytest.mark.parametrize("start", ["yesterday", "2026-01-31T08:00:00", ""])
def test_a_start_that_is_not_an_instant_is_a_mistake(start: str) -> None:
    with pytest.raises(ConfigError, match="TRIM_HORIZON, LATEST"):
        start_time_s(start)


def test_without_a_place_kcl_looks_for_aws_itself() -> None:
    values = ours()
    assert not {"regionName", "kinesisEndpoint", "dynamoDBEndpoint", "cloudWatchClient.endpointOverride"} & set(values)
    assert values["metricsLevel"] == "SUMMARY"


def test_endpoints_and_region_come_from_the_environment() -> None:
    place = AwsEndpoints.from_environment(
        {
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
            "AWS_ENDPOINT_URL_DYNAMODB": "http://elsewhere",
        }
    )
    assert place == AwsEndpoints("eu-west-1", "http://127.0.0.1:4566", "http://elsewhere", "http://127.0.0.1:4566")
    assert ours(place)["metricsLevel"] == "NONE"


def test_aws_region_goes_before_the_default_region() -> None:
    assert AwsEndpoints.from_environment({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}).region == "a"


def test_configured_endpoints_can_be_ignored_as_the_sdks_do() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert AwsEndpoints.from_environment(environment) == AwsEndpoints()


def test_a_misspelt_property_gets_a_suggestion() -> None:
    assert complaint("maxRecord").fix == "Did you mean maxRecords?"


def test_an_unknown_property_without_a_likeness_says_where_the_names_are() -> None:
    assert "MultiLangDaemonConfiguration" in complaint("zzz").fix


def test_a_suggestion_is_never_one_that_would_be_refused() -> None:
    assert "workerId" not in complaint("workerID").fix


@pytest.mark.parametrize(
    ("name", "setting"), [("failoverTimeMillis", "[kcl] failover_ms"), ("streamArn", "[stream] name")]
)
def test_a_property_that_has_a_setting_points_to_it(name: str, setting: str) -> None:
    assert setting in complaint(name).fix


@pytest.mark.parametrize("name", ["executableName", "workerId", "retrievalMode", "timeoutInSeconds", "tableName"])
def test_a_property_that_penstock_sets_is_refused(name: str) -> None:
    assert "it cannot be set" in complaint(name).problem


@pytest.mark.parametrize(
    "name", ["AwsCredentialsProvider", "regionName", "kinesisEndpoint", "dynamoDbClient.endpointOverride"]
)
def test_where_aws_is_comes_from_the_standard_chain(name: str) -> None:
    assert "standard AWS chain" in complaint(name, "x").problem


def test_fan_out_is_not_offered() -> None:
    assert "polls" in complaint("fanoutConfig.consumerName", "x").problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxRecords", "many"),
        ("maxRecords", True),
        ("isGracefulLeaseHandoffEnabled", 1),
        ("listShardsBackoffTimeInMillis", "9"),
    ],
)
def test_a_value_of_the_wrong_kind_is_a_mistake(name: str, value: str | int | bool) -> None:
    assert "is not" in complaint(name, value).problem


@pytest.mark.parametrize(("name", "value"), [("cleanupLeasesUponShardCompletion", False), ("taskBackoffTimeMillis", 0)])
def test_a_value_that_kcl_would_ignore_is_a_mistake(name: str, value: int | bool) -> None:
    assert "KCL ignores" in complaint(name, value).problem


def test_a_false_that_kcl_holds_as_an_object_is_fine() -> None:
    check({"isGracefulLeaseHandoffEnabled": False, "maxRecords": 500, "metricsLevel": "DETAILED"})


def test_the_file_escapes_the_syntax_of_java() -> None:
    text = render({"executableName": "C:\\py #1 !=ü \U0001f600", "a": " led", "b": True})
    assert text.splitlines() == [
        "a = \\ led",
        "b = true",
        r"executableName = C\:\\py \#1 \!\=\u00fc \ud83d\ude00",
    ]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("maxRecords", 10_001, "at most 10000"),
        ("maxRecords", -1, "a whole number of at least 1"),
        ("metricsLevel", "NOPE", "one of NONE, SUMMARY, DETAILED"),
        ("metricsLevel", "", "one of NONE"),
        ("workerMetricsBillingMode", "FREE", "one of PAY_PER_REQUEST, PROVISIONED"),
        ("retryGetRecordsInSeconds", -1, "a whole number of at least 0"),
        ("logWarningForTaskAfterMillis", -5, "a whole number of at least 0"),
        ("metricsEnabledDimensions", "Foo", "some of Operation, ShardId"),
        ("metricsEnabledDimensions", "ShardId,", "some of Operation, ShardId"),
        ("workerMetricsEMAAlpha", "1.5", "at most 1"),
        ("workerMetricsEMAAlpha", "x", "a number above 0"),
        ("maxThroughputPerHostKBps", "nan", "a number above 0"),
        ("maxThroughputPerHostKBps", "-1", "a number above 0"),
        ("staleWorkerMetricsEntryCleanupDuration", "3h", "an ISO-8601 duration such as PT3H"),
        ("staleWorkerMetricsEntryCleanupDuration", "PT", "an ISO-8601 duration"),
        ("staleWorkerMetricsEntryCleanupDuration", "PT-3H", "an ISO-8601 duration"),
    ],
)
def test_a_value_that_ends_the_jvm_or_means_nothing_is_refused(name: str, value: str | int, wanted: str) -> None:
    assert complaint(name, value).fix.count(wanted) == 1


@pytest.mark.parametrize("name", [name for name, kind in KNOWN_PROPERTIES.items() if kind.lower() in WHOLE_TYPES])
def test_no_property_takes_a_negative_number(name: str) -> None:
    assert complaint(name, -1).fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxRecords", 1),
        ("maxRecords", 10_000),
        ("metricsLevel", "detailed"),
        ("coordinatorStateBillingMode", "provisioned"),
        ("retryGetRecordsInSeconds", 0),
        ("metricsEnabledDimensions", "ShardId, Operation"),
        ("metricsEnabledDimensions", "ALL"),
        ("workerMetricsEMAAlpha", "0.2"),
        ("staleWorkerMetricsEntryCleanupDuration", "PT1H30M"),
        ("staleWorkerMetricsEntryCleanupDuration", "p1dT0.5s"),
    ],
)
def test_a_value_that_kcl_takes_is_accepted(name: str, value: str | int) -> None:
    check({name: value})

"""The properties with which KCL's MultiLangDaemon is started. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.config.settings import KclSettings, StreamSettings
from consumer.config.kcl_properties import MAX_RECORDS, WORKER_REPORT_MS, Value, check, java_text, start_time_s


@dataclass(frozen=True, slots=True)
class AwsEndpoints:
    """The region and the endpoints of AWS. KCL's own AWS chain resolves those that are empty."""

    region: str = ""
    kinesis: str = ""
    dynamodb: str = ""
    cloudwatch: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AwsEndpoints:
        """Read ``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_<SERVICE>``, ``AWS_REGION`` and ``AWS_DEFAULT_REGION``.

        The Java SDK does not read AWS_DEFAULT_REGION by itself.
        """
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
        if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return cls(region)
        anywhere = environment.get("AWS_ENDPOINT_URL", "")
        services = ("KINESIS", "DYNAMODB", "CLOUDWATCH")
        return cls(region, *(environment.get(f"AWS_ENDPOINT_URL_{service}", anywhere) for service in services))

    @property
    def local(self) -> bool:
        """Whether CloudWatch is on this machine, so that KCL should send no metrics."""
        return urlsplit(self.cloudwatch).hostname in {"localhost", "127.0.0.1", "::1"}


def properties(
    kcl: KclSettings, stream: StreamSettings, worker_id: str, command: str, place: AwsEndpoints
) -> dict[str, Value]:
    """Return all properties. ``command`` starts a bridge; KCL splits it at spaces, without quoting.

    :raises ConfigError: for a wrong entry of ``[kcl.properties]`` or a wrong ``[stream] start``.
    """
    if kcl.properties:
        check(kcl.properties)
    return _ours(kcl, stream, worker_id, command) | _position(stream.start) | _aws(place) | _tuned(kcl) | kcl.properties


def render(values: Mapping[str, Value]) -> str:
    """Return the text of a Java properties file: Latin-1 with escapes, as ``java.util.Properties.load`` reads it."""
    return "".join(f"{_escaped(name)} = {_escaped(java_text(value))}\n" for name, value in sorted(values.items()))


def _ours(kcl: KclSettings, stream: StreamSettings, worker_id: str, command: str) -> dict[str, Value]:
    """Properties that Penstock sets.

    Without ``skipShardSync…``, KCL's ``ProcessTask`` looks up its shard before it delivers records. If ListShards then
    fails, KCL skips the records and continues. It also drops user records whose key belongs to another shard, but only
    once it knows the shard, so that two readings of a shard may differ.
    """
    values: dict[str, Value] = {
        "executableName": command,
        "applicationName": stream.application,
        "streamName": stream.name,
        "workerId": worker_id,
        "retrievalMode": "POLLING",
        "callProcessRecordsEvenForEmptyRecordList": True,
        "skipShardSyncAtWorkerInitializationIfLeasesExist": True,
        "failoverTimeMillis": kcl.failover_ms,
        "idleTimeBetweenReadsInMillis": kcl.idle_between_reads_ms,
        "shutdownGraceMillis": int(kcl.shutdown_grace_s * 1000),
    }
    if kcl.max_leases:
        values["maxLeasesForWorker"] = kcl.max_leases
    return values


def _position(start: str) -> dict[str, Value]:
    seconds = start_time_s(start)
    if seconds is None:
        return {"initialPositionInStream": start}
    return {"initialPositionInStreamExtended": seconds}


def _aws(place: AwsEndpoints) -> dict[str, Value]:
    values: dict[str, Value] = {
        "awsCredentialsProvider": "DefaultCredentialsProvider",
        "regionName": place.region,
        "kinesisEndpoint": place.kinesis,
        "dynamoDBEndpoint": place.dynamodb,
        "cloudWatchClient.endpointOverride": place.cloudwatch,
        "metricsLevel": "NONE" if place.local else "SUMMARY",
    }
    return {name: value for name, value in values.items() if value}


def _tuned(kcl: KclSettings) -> dict[str, Value]:
    """Our defaults, which ``[kcl.properties]`` overrides. Times are in milliseconds.

    With KCL's defaults a first start waits 20 seconds for the second lease assignment (the first runs before the worker
    has reported), and a child shard waits 10 seconds after the end of its parent. ``maxRecords`` bounds the heap that a
    read needs: with KCL's 10,000, a backlog of 900-byte records on four shards exceeded 256 MiB. 1,000 records four
    times a second are four times the write limit of a shard.
    """
    return {
        "maxRecords": MAX_RECORDS,
        "leaseAssignmentIntervalMillis": 2_000,
        "varianceBalancingFrequency": 5,
        "disableWorkerMetrics": True,
        "inMemoryWorkerMetricsCaptureFrequencyMillis": 500,
        "workerMetricsReporterFreqInMillis": WORKER_REPORT_MS,
        "parentShardPollIntervalMillis": 1_000,
        "gracefulLeaseHandoffTimeoutMillis": max(30_000, int(kcl.shutdown_grace_s * 1000) + 10_000),
    }


def _escaped(text: str) -> str:
    special = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "=": "\\=", ":": "\\:", "#": "\\#", "!": "\\!"}
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    escaped = "".join(special.get(chr(code)) or (chr(code) if 32 <= code < 127 else f"\\u{code:04x}") for code in codes)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped

"""The properties that KCL's MultiLangDaemon is started with. Pure."""

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
    """Where AWS is. Empty: KCL's own AWS chain finds it."""

    region: str = ""
    kinesis: str = ""
    dynamodb: str = ""
    cloudwatch: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AwsEndpoints:
        """The endpoints that ``AWS_ENDPOINT_URL`` and its kin give; the JVM's SDK does not read AWS_DEFAULT_REGION."""
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", "")
        if environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return cls(region)
        anywhere = environment.get("AWS_ENDPOINT_URL", "")
        services = ("KINESIS", "DYNAMODB", "CLOUDWATCH")
        return cls(region, *(environment.get(f"AWS_ENDPOINT_URL_{service}", anywhere) for service in services))

    @property
    def local(self) -> bool:
        """CloudWatch is this machine, or nowhere: there is nobody to send metrics to."""
        return urlsplit(self.cloudwatch).hostname in {"localhost", "127.0.0.1", "::1"}


def properties(
    kcl: KclSettings, stream: StreamSettings, worker_id: str, command: str, place: AwsEndpoints
) -> dict[str, Value]:
    """All of them. ``command`` starts a bridge; KCL splits it at spaces and knows no quotes.

    :raises ConfigError: for a wrong entry of ``[kcl.properties]`` or a wrong ``[stream] start``.
    """
    if kcl.properties:
        check(kcl.properties)
    return _ours(kcl, stream, worker_id, command) | _position(stream.start) | _aws(place) | _tuned(kcl) | kcl.properties


def render(values: Mapping[str, Value]) -> str:
    """The text of a Java properties file, as ``java.util.Properties.load`` reads it: Latin-1 with escapes."""
    return "".join(f"{_escaped(name)} = {_escaped(java_text(value))}\n" for name, value in sorted(values.items()))


def _ours(kcl: KclSettings, stream: StreamSettings, worker_id: str, command: str) -> dict[str, Value]:
    """Without ``skipShardSync…``, KCL's ``ProcessTask`` looks its shard up before it hands records on. If it cannot
    list shards then, KCL skips the records and goes on. And it drops those records of an aggregate whose key is
    of another shard, but only once it knows the shard, so that two readings of a shard need not agree.
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
    """Ours unless ``[kcl.properties]`` says otherwise. Times are in milliseconds.

    KCL's defaults cost a fresh start 20 seconds for the second look at the leases (the first comes before the
    worker's own sign of life), and a child shard 10 after its parent's end. ``maxRecords`` bounds what a read costs
    the JVM's heap: at KCL's 10,000 four shards of 900-byte records with a backlog burst 256 MiB, and 1,000 four times
    a second is still four times what a shard takes in.
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

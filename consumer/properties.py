"""The properties that KCL's MultiLangDaemon is started with. Pure.

KCL ignores a misspelt name in silence, and a ``false`` or ``0`` wherever it holds the value as a Java primitive;
both are errors here. Names that this package sets are not to be set twice.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from consumer.known_properties import KNOWN_PROPERTIES
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.config import KclSettings, StreamSettings

Value = str | int | bool

KEY = "[kcl.properties]"

SETTING_OF: dict[str, str] = {
    "applicationName": "[stream] application",
    "streamName": "[stream] name",
    "streamArn": "[stream] name",
    "initialPositionInStream": "[stream] start",
    "initialPositionInStreamExtended": "[stream] start",
    "failoverTimeMillis": "[kcl] failover_ms",
    "idleTimeBetweenReadsInMillis": "[kcl] idle_between_reads_ms",
    "maxLeasesForWorker": "[kcl] max_leases",
    "shutdownGraceMillis": "[kcl] shutdown_grace_s",
}
"""Properties that follow from a setting."""

OURS: dict[str, str] = {
    "executableName": "the bridge is the only child there is",
    "processingLanguage": "the bridge is the only child there is",
    "maxActiveThreads": "each shard needs several threads at once, and a bounded pool can starve all of them",
    "workerId": "it is made anew at every start",
    "workerIdentifier": "it is made anew at every start",
    "tableName": "leases are found by [stream] application",
    "coordinatorStateTableName": "leases are found by [stream] application",
    "workerMetricsTableName": "leases are found by [stream] application",
    "clientVersionConfig": "leaving cleanly relies on KCL 3's own coordination",
    "retrievalMode": "records are polled for",
    "callProcessRecordsEvenForEmptyRecordList": "checkpoints ride on the empty calls",
    "skipShardSyncAtWorkerInitializationIfLeasesExist": "KCL would skip records whenever ListShards fails",
    "timeoutInSeconds": "it halts the JVM without a drain; the model has [model] timeout_s",
    "validateSequenceNumberBeforeCheckpointing": "only delivered positions are checkpointed",
    "shardPrioritization": "it is a Java object and cannot be written here",
}
"""Properties that are fixed, and why."""

AWS_CHAIN = "credentials, region and endpoints come from the standard AWS chain"
FANOUT = "fanoutConfig."

REPORT_MS = 5_000
"""How often a worker says that it is alive: twice this long after its death it is given no more leases."""

MAX_RECORDS = 1_000
"""What KCL reads at once, unless ``[kcl.properties] maxRecords`` says otherwise."""

READS_AHEAD = 6
"""Reads that KCL may have made of a shard and not handed over, with one to spare: three wait
(``maxPendingProcessRecordsInput``), one is under way and one is handed over."""

PRIMITIVES = frozenset({"boolean", "int", "long", "double"})
WHOLE = frozenset({"int", "long", "Integer", "Long"})
TRUTHS = frozenset({"boolean", "Boolean"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where AWS is. Empty: KCL's own AWS chain finds it."""

    region: str = ""
    kinesis: str = ""
    dynamodb: str = ""
    cloudwatch: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Place:
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
    kcl: KclSettings, stream: StreamSettings, worker_id: str, command: str, place: Place
) -> dict[str, Value]:
    """All of them. ``command`` starts a bridge; KCL splits it at spaces and knows no quotes.

    :raises ConfigError: for a wrong entry of ``[kcl.properties]`` or a wrong ``[stream] start``.
    """
    if kcl.properties:
        check(kcl.properties)
    return _ours(kcl, stream, worker_id, command) | _position(stream.start) | _aws(place) | _tuned(kcl) | kcl.properties


def render(values: Mapping[str, Value]) -> str:
    """The text of a Java properties file, as ``java.util.Properties.load`` reads it: Latin-1 with escapes."""
    return "".join(f"{_escaped(name)} = {_escaped(_text(value))}\n" for name, value in sorted(values.items()))


def check(extra: Mapping[str, Value]) -> None:
    """Refuse what KCL would ignore, misread, or take from our hands.

    :raises ConfigError: at the first that is wrong.
    """
    for name, value in extra.items():
        _check_name(name)
        _check_value(name, value, KNOWN_PROPERTIES[name])


def start_time_s(start: str) -> int | None:
    """``[stream] start`` in epoch seconds, rounded down; None for TRIM_HORIZON and LATEST."""
    if start in {"TRIM_HORIZON", "LATEST"}:
        return None
    try:
        when = datetime.fromisoformat(start)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ConfigError(
            "[stream] start",
            f"{start!r} is neither TRIM_HORIZON nor LATEST nor a time with a zone",
            "Write for example 2026-01-31T08:00:00Z.",
        )
    return int(when.timestamp() // 1)


def read_at_once(kcl: KclSettings) -> int:
    """Records of one read, at most."""
    return int(kcl.properties.get("maxRecords", MAX_RECORDS))


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


def _aws(place: Place) -> dict[str, Value]:
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
        "workerMetricsReporterFreqInMillis": REPORT_MS,
        "parentShardPollIntervalMillis": 1_000,
        "gracefulLeaseHandoffTimeoutMillis": max(30_000, int(kcl.shutdown_grace_s * 1000) + 10_000),
    }


def _check_name(name: str) -> None:
    if setting := SETTING_OF.get(name):
        raise ConfigError(f"{KEY} {name}", "there is a setting for it", f"Set {setting} instead.")
    if why := OURS.get(name):
        raise ConfigError(f"{KEY} {name}", f"it is fixed: {why}", "Remove it.")
    if _is_of_aws(name):
        raise ConfigError(f"{KEY} {name}", AWS_CHAIN, "Remove it.")
    if name.startswith(FANOUT):
        raise ConfigError(f"{KEY} {name}", "records are polled for, not fanned out", "Remove it.")
    if name not in KNOWN_PROPERTIES:
        free = [known for known in KNOWN_PROPERTIES if not _is_fixed(known)]
        close = difflib.get_close_matches(name, free, n=1)
        fix = f"Did you mean {close[0]}?" if close else "See the KCL's MultiLangDaemonConfiguration for the names."
        raise ConfigError(f"{KEY} {name}", "KCL knows no such property", fix)


def _is_fixed(name: str) -> bool:
    return name in SETTING_OF or name in OURS or _is_of_aws(name) or name.startswith(FANOUT)


def _is_of_aws(name: str) -> bool:
    """KCL itself takes ``awsCredentialsProvider`` in any case."""
    lower = name.lower()
    services = ("awscredentialsprovider", "regionname", "kinesisendpoint", "dynamodbendpoint")
    return lower.startswith(services) or lower.endswith((".endpointoverride", ".region"))


def _check_value(name: str, value: Value, kind: str) -> None:
    wanted = "true or false" if kind in TRUTHS else "a whole number" if kind in WHOLE else ""
    fits = isinstance(value, bool) if kind in TRUTHS else type(value) is int if kind in WHOLE else True
    if not fits:
        raise ConfigError(f"{KEY} {name}", f"{value!r} is not {wanted}", f"Write {wanted}.")
    if kind in PRIMITIVES and _text(value) in {"false", "0"}:
        raise ConfigError(f"{KEY} {name}", f"KCL ignores {_text(value)} here and uses its default", "Remove it.")


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escaped(text: str) -> str:
    special = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "=": "\\=", ":": "\\:", "#": "\\#", "!": "\\!"}
    units = text.encode("utf-16-be", "surrogatepass")
    codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
    escaped = "".join(special.get(chr(code)) or (chr(code) if 32 <= code < 127 else f"\\u{code:04x}") for code in codes)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped

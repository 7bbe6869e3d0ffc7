"""Which properties of KCL a user may set. Pure.

KCL silently ignores a misspelt name. It also ignores ``false`` and ``0`` for properties whose Java type is a primitive.
Both are errors here. Properties that Penstock sets cannot be set by the user.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import TYPE_CHECKING

from consumer.config.kcl_values import wanted_instead
from consumer.config.known_kcl_properties import KNOWN_PROPERTIES
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumer.config.settings import KclSettings


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
"""Properties that are derived from a setting."""

POLLS = "Penstock polls, because only polling limits how far KCL reads ahead of what is processed"

OURS: dict[str, str] = {
    "executableName": "the JVM always starts Penstock's bridge",
    "processingLanguage": "the JVM always starts Penstock's bridge",
    "maxActiveThreads": "each shard needs several threads, and a bounded pool can block all of them",
    "workerId": "Penstock makes a new one at every start",
    "workerIdentifier": "Penstock makes a new one at every start",
    "tableName": "the tables are named after [stream] application",
    "coordinatorStateTableName": "the tables are named after [stream] application",
    "workerMetricsTableName": "the tables are named after [stream] application",
    "clientVersionConfig": "graceful handoff needs the lease assignment of KCL 3",
    "retrievalMode": POLLS,
    "callProcessRecordsEvenForEmptyRecordList": "Penstock checkpoints during empty calls too",
    "skipShardSyncAtWorkerInitializationIfLeasesExist": "KCL would skip records whenever ListShards fails",
    "timeoutInSeconds": "it halts the JVM without a drain; use [model] timeout_s for the model",
    "validateSequenceNumberBeforeCheckpointing": "Penstock checkpoints only positions that were delivered",
    "shardPrioritization": "its value is a Java object, which cannot be written in TOML",
}
"""Properties that are fixed, each with the reason."""

AWS_CHAIN = "credentials, region and endpoints come from the standard AWS chain"
FANOUT = "fanoutConfig."

WORKER_REPORT_MS = 5_000
"""Milliseconds between two reports of a worker that it is alive. KCL stops assigning leases to a dead worker after
twice this time."""

MAX_RECORDS = 1_000
"""Maximum number of records of one read, unless ``[kcl.properties] maxRecords`` is set."""

READS_AHEAD = 6
"""Maximum number of reads of a shard that KCL has made and the session has not processed: three wait
(``maxPendingProcessRecordsInput``), one is in progress, one is being processed; one is spare."""

PRIMITIVES = frozenset({"boolean", "int", "long", "double"})
WHOLE = frozenset({"int", "long", "Integer", "Long"})
MOST = {kind: 10**12 if kind.lower() == "long" else 2**31 - 1 for kind in WHOLE}
"""Maximum of each Java type. KCL clips a larger int, and a larger long overflows when KCL turns it into nanoseconds."""
TRUTHS = frozenset({"boolean", "Boolean"})


def check(extra: Mapping[str, Value]) -> None:
    """Refuse properties that KCL would ignore or misread, and those that Penstock sets.

    :raises ConfigError: for the first property that is wrong.
    """
    for name, value in extra.items():
        _check_name(name)
        _check_value(name, value, KNOWN_PROPERTIES[name])


def start_time_s(start: str) -> int | None:
    """Return ``[stream] start`` in seconds since the epoch, rounded down; None for TRIM_HORIZON and LATEST.

    :raises ConfigError: if it is neither of the two nor an ISO-8601 time with a time zone.
    """
    if start in {"TRIM_HORIZON", "LATEST"}:
        return None
    try:
        when = datetime.fromisoformat(start)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise ConfigError(
            "[stream] start",
            f"{start!r} is not TRIM_HORIZON, LATEST or a time with a time zone",
            "For example: 2026-01-31T08:00:00Z.",
        )
    return int(when.timestamp() // 1)


def read_at_once(kcl: KclSettings) -> int:
    """Maximum number of records of one GetRecords call."""
    return int(kcl.properties.get("maxRecords", MAX_RECORDS))


def _check_name(name: str) -> None:
    if setting := SETTING_OF.get(name):
        raise ConfigError(f"{KEY} {name}", "Penstock has a setting for it", f"Set {setting} instead.")
    if why := OURS.get(name):
        raise ConfigError(f"{KEY} {name}", f"it cannot be set: {why}", "Remove it.")
    if _is_of_aws(name):
        raise ConfigError(f"{KEY} {name}", AWS_CHAIN, "Remove it.")
    if name.startswith(FANOUT):
        raise ConfigError(f"{KEY} {name}", f"it cannot be set: {POLLS}", "Remove it.")
    if name not in KNOWN_PROPERTIES:
        free = [known for known in KNOWN_PROPERTIES if not _is_fixed(known)]
        close = difflib.get_close_matches(name, free, n=1)
        fix = f"Did you mean {close[0]}?" if close else "See MultiLangDaemonConfiguration in KCL for the names."
        raise ConfigError(f"{KEY} {name}", "KCL has no such property", fix)


def _is_fixed(name: str) -> bool:
    return name in SETTING_OF or name in OURS or _is_of_aws(name) or name.startswith(FANOUT)


def _is_of_aws(name: str) -> bool:
    """Compare in lower case: KCL accepts ``awsCredentialsProvider`` in any case."""
    lower = name.lower()
    services = ("awscredentialsprovider", "regionname", "kinesisendpoint", "dynamodbendpoint")
    return lower.startswith(services) or lower.endswith((".endpointoverride", ".region"))


def _check_value(name: str, value: Value, kind: str) -> None:
    wanted = "true or false" if kind in TRUTHS else "a whole number" if kind in WHOLE else ""
    fits = isinstance(value, bool) if kind in TRUTHS else type(value) is int if kind in WHOLE else True
    if not fits:
        raise ConfigError(f"{KEY} {name}", f"{value!r} is not {wanted}", f"Write {wanted}.")
    if kind in MOST and isinstance(value, int) and not -MOST[kind] <= value <= MOST[kind]:
        raise ConfigError(f"{KEY} {name}", f"{value} is too large", f"Write at most {MOST[kind]}.")
    if kind in PRIMITIVES and java_text(value) in {"false", "0"}:
        raise ConfigError(f"{KEY} {name}", f"KCL ignores {java_text(value)} here and uses its default", "Remove it.")
    if instead := wanted_instead(name, value, kind):
        raise ConfigError(
            f"{KEY} {name}", f"KCL does not take {java_text(value) or 'an empty text'} here", f"Write {instead}."
        )


def java_text(value: Value) -> str:
    """Format a value as a Java properties file has it: ``true``, ``false``, or ``str(value)``."""
    return str(value).lower() if isinstance(value, bool) else str(value)

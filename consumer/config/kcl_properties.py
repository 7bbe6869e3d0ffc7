"""Which of KCL's properties a user may set. Pure.

KCL ignores a misspelt name in silence, and a ``false`` or ``0`` wherever it holds the value as a Java primitive; both
are errors here. Names that this package sets are not to be set twice.
"""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import TYPE_CHECKING

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

WORKER_REPORT_MS = 5_000
"""How often a worker says that it is alive: twice this long after its death it is given no more leases."""

MAX_RECORDS = 1_000
"""What KCL reads at once, unless ``[kcl.properties] maxRecords`` says otherwise."""

READS_AHEAD = 6
"""Reads that KCL may have made of a shard and not handed over, with one to spare: three wait
(``maxPendingProcessRecordsInput``), one is under way and one is handed over."""

PRIMITIVES = frozenset({"boolean", "int", "long", "double"})
WHOLE = frozenset({"int", "long", "Integer", "Long"})
TRUTHS = frozenset({"boolean", "Boolean"})


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
    if kind in PRIMITIVES and java_text(value) in {"false", "0"}:
        raise ConfigError(f"{KEY} {name}", f"KCL ignores {java_text(value)} here and uses its default", "Remove it.")


def java_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Which values KCL accepts for a property, beyond its Java type. Pure.

A wrong one ends the JVM with a stack trace, or is ignored. Where the limits come from: the class files of KCL 3.1.3
(``PollingConfig.maxRecords``, the converters of ``MultiLangDaemonConfiguration``, ``DurationConverter``, the constants
of ``MetricsConfig`` and ``MetricsUtil``). No number of KCL's has a meaning below 0.
"""

from __future__ import annotations

import math
import re

CHOICES = {
    "MetricsLevel": ("NONE", "SUMMARY", "DETAILED"),
    "BillingMode": ("PAY_PER_REQUEST", "PROVISIONED"),
}
"""By Java type; KCL reads them in any case."""

DIMENSIONS = ("Operation", "ShardId", "StreamId", "WorkerIdentifier", "ALL")
"""What ``metricsEnabledDimensions`` lists."""

MOST = {"maxRecords": 10_000, "workerMetricsEMAAlpha": 1}
"""Maxima of single properties. The second is the weight of the latest value in an average."""

_DURATION = re.compile(r"P(?=.)(\d+D)?(T(?=[\d.])(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?", re.IGNORECASE | re.ASCII)
_WHOLE = frozenset({"int", "long", "Integer", "Long"})


def wanted_instead(name: str, value: str | int | bool, kind: str) -> str:
    """Return what to write instead of the value, which already has its Java type; empty if KCL takes it."""
    if kind in CHOICES and str(value).upper() not in CHOICES[kind]:
        return f"one of {', '.join(CHOICES[kind])}"
    if kind == "String[]":
        listed = [each.strip() for each in str(value).split(",")]
        return "" if set(listed) <= set(DIMENSIONS) else f"some of {', '.join(DIMENSIONS)}, separated by commas"
    if kind == "Duration" and not _DURATION.fullmatch(str(value).strip()):
        return "an ISO-8601 duration such as PT3H"
    if kind in _WHOLE or kind == "double":
        return _number_instead(name, value, kind)
    return ""


def _number_instead(name: str, value: str | int | bool, kind: str) -> str:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except ValueError:
        number = math.nan
    most = MOST.get(name)
    least = 0 if kind == "double" or kind[0].isupper() else 1
    if kind == "double" and not 0 < number < math.inf:
        return "a number above 0, in quotes" + (f", at most {most}" if most else "")
    if not number >= least:
        return f"a whole number of at least {least}"
    return f"at most {most}" if most and number > most else ""

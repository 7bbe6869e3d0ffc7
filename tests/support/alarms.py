"""An alarm of a template, evaluated on the lines ``stats`` of tasks, as CloudWatch would: by period, by metric math."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.cloudformation import Stack

STATISTICS = {
    "Sum": sum, "Maximum": max, "Minimum": min, "SampleCount": len, "Average": lambda values: sum(values) / len(values),
}  # fmt: skip

Lines = Sequence[tuple[float, Mapping[str, Any]]]
"""Seconds, and the fields of the line that was logged then."""


def in_alarm(stack: Stack, name: str, lines: Lines, until_s: float, other: Mapping[str, float] | None = None) -> bool:
    """Whether the alarm is in ALARM at ``until_s``. ``other``: a value for each metric that is not of the lines."""
    alarm = stack.resource(name)["Properties"]
    periods = range(1, alarm["EvaluationPeriods"] + 1)
    length_s = alarm.get("Period") or next(
        one["MetricStat"]["Period"] for one in alarm["Metrics"] if "MetricStat" in one
    )
    points = []
    for back in periods:
        begin_s, end_s = until_s - back * length_s, until_s - (back - 1) * length_s
        points.append(_breaching(stack, alarm, [line for at_s, line in lines if begin_s <= at_s < end_s], other or {}))
    return bool(points.count(True) >= alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"]))


def _breaching(
    stack: Stack, alarm: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], other: Mapping[str, float]
) -> bool:
    value = _value(stack, alarm, lines, other)
    if value is None:
        return bool(alarm["TreatMissingData"] == "breaching")
    above = alarm["ComparisonOperator"] == "GreaterThanThreshold"
    return bool(value > alarm["Threshold"] if above else value < alarm["Threshold"])


def _value(
    stack: Stack, alarm: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], other: Mapping[str, float]
) -> float | None:
    if "Metrics" not in alarm:
        return _statistic(stack, alarm["MetricName"], alarm["Statistic"], lines, other)
    values: dict[str, float | None] = {}
    [expression] = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
    for each in alarm["Metrics"]:
        if stat := each.get("MetricStat"):
            values[each["Id"]] = _statistic(stack, stat["Metric"]["MetricName"], stat["Stat"], lines, other)
    return evaluated(expression, values)


def _statistic(
    stack: Stack, metric: str, statistic: str, lines: Sequence[Mapping[str, Any]], other: Mapping[str, float]
) -> float | None:
    if metric in other:
        return other[metric]
    filters = stack.of_type("AWS::Logs::MetricFilter").values()
    made = [each["MetricTransformations"][0] for each in filters]
    [field] = [one["MetricValue"].removeprefix("$.stats.") for one in made if one["MetricName"] == metric]
    values = [line[field] for line in lines]
    return float(STATISTICS[statistic](values)) if values else None  # type: ignore[operator]


def evaluated(expression: str, values: Mapping[str, float | None]) -> float | None:
    """Metric math on one point of each metric: ``IF``, ``FILL``, ``AND``, ``OR``, comparisons and arithmetic."""
    text = re.sub(r"FILL\((\w+), *(\d+)\)", lambda found: _filled(values[found[1]], found[2]), expression)
    known = {name: value for name, value in values.items() if value is not None}
    if any(name in values and name not in known for name in re.findall(r"\w+", text)):
        return None
    text = text.replace(" AND ", " and ").replace(" OR ", " or ").replace("IF(", "IF_(")
    return float(eval(text, {"IF_": lambda holds, then, otherwise: then if holds else otherwise}, known))


def _filled(value: float | None, instead: str) -> str:
    return instead if value is None else repr(value)

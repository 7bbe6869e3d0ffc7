"""The properties of ``AWS::Kinesis::Stream`` in a template, which may write numbers as strings."""

from __future__ import annotations

import json
import re
from typing import Any

from consumer.local.kinesis.errors import invalid

Properties = dict[str, Any]

NUMBERS = ("ShardCount", "RetentionPeriodHours", "MaxRecordSizeInKiB", "WarmThroughputMiBps")
AT_CREATION = ("ShardCount", "StreamModeDetails", "MaxRecordSizeInKiB", "WarmThroughputMiBps")
_DIGITS = re.compile(r"[0-9]{1,18}")
KNOWN = {"Name", "Tags", "DesiredShardLevelMetrics", *NUMBERS, *AT_CREATION}


def checked_properties(properties: Properties) -> Properties:
    """Return the properties with numbers as integers.

    :raises KinesisError: a property is unknown, or its value has another form than CloudFormation takes.
    """
    if unknown := sorted(properties.keys() - KNOWN):
        raise invalid(f"The local AWS does not support {', '.join(unknown)}.")
    metrics = properties.get("DesiredShardLevelMetrics", [])
    if not (isinstance(metrics, list) and all(isinstance(metric, str) for metric in metrics)):
        raise invalid("DesiredShardLevelMetrics must be a list of names.")
    tags_of(properties)
    return {**properties, **{name: _number(name, properties[name]) for name in NUMBERS if name in properties}}


def _number(name: str, value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise invalid(f"{name} must be a whole number; it is {json.dumps(value, default=str)}.")


def tags_of(properties: Properties) -> dict[str, str]:
    """Return the tags by their keys; a template may write their values as numbers and truth values."""
    tags = properties.get("Tags", [])
    if not (isinstance(tags, list) and all(_is_tag(tag) for tag in tags)):
        raise invalid("Tags must be a list of structures with a Key and a Value.")
    return {
        tag["Key"]: json.dumps(tag["Value"]) if isinstance(tag["Value"], bool) else str(tag["Value"]) for tag in tags
    }


def _is_tag(tag: Any) -> bool:
    return (
        isinstance(tag, dict)
        and tag.keys() == {"Key", "Value"}
        and isinstance(tag["Key"], str)
        and isinstance(tag["Value"], str | int | float)
    )

"""CloudFormation for Kinesis: ``AWS::Kinesis::Stream`` makes streams of the local Kinesis. moto handles the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from consumer.local.kinesis.errors import KinesisError
from consumer.local.stream_properties import AT_CREATION, Properties, checked_properties, tags_of
from consumer.local.stream_users import SKIPPED_TYPES, refused_resource

Ask = Callable[[str, str, dict[str, Any]], dict[str, Any]]
"""Performs an operation of Kinesis: takes region, operation and request; returns the answer or raises
:class:`KinesisError`."""

CHANGED_S = 5.0


class Streams:
    """Creates, updates and deletes streams as a template describes them. Each call returns when the change is done."""

    def __init__(self, ask: Ask, region: str) -> None:
        self._region = region
        self._ask = ask

    def create(self, name: str, properties: Properties) -> str:
        """Create a stream and return its ARN.

        :raises KinesisError: if a property is unknown or wrong, or the stream exists.
        """
        wanted = checked_properties(properties)
        tags = {"Tags": tags_of(wanted)} if tags_of(wanted) else {}
        self("CreateStream", name, **{key: wanted[key] for key in AT_CREATION if key in wanted}, **tags)
        self._changed(name)
        try:
            self.update(name, {key: wanted[key] for key in wanted if key not in AT_CREATION})
        except KinesisError:
            self.delete(name)
            raise
        return str(self.summary(name)["StreamARN"])

    def update(self, name: str, properties: Properties) -> None:
        """Change a stream to match the template.

        Properties that the template omits get the default of AWS, except for the shard count and the mode, which stay.
        """
        wanted, has = checked_properties(properties), self.summary(name)
        for operation, request in (*_mode(wanted, has), *_shards(wanted, has), *_retention(wanted, has)):
            self(operation, name, **request)
            self._changed(name)
        self._tag(name, tags_of(wanted))
        self._monitor(name, set(wanted.get("DesiredShardLevelMetrics", ())), has)

    def delete(self, name: str) -> None:
        """Delete a stream and its consumers, and wait until it is gone; nothing happens if there is no such stream."""
        try:
            self("DeleteStream", name, EnforceConsumerDeletion=True)
        except KinesisError as error:
            if error.code == "ResourceNotFoundException":
                return
            raise
        self._wait(lambda: name not in self._ask(self._region, "ListStreams", {})["StreamNames"])

    def summary(self, name: str) -> dict[str, Any]:
        """Return ``StreamDescriptionSummary`` of the stream."""
        return dict(self("DescribeStreamSummary", name)["StreamDescriptionSummary"])

    def __call__(self, operation: str, name: str, **request: Any) -> dict[str, Any]:
        """Perform one operation on the stream and return its answer."""
        return self._ask(self._region, operation, {"StreamName": name, **request})

    def _changed(self, name: str) -> None:
        self._wait(lambda: self.summary(name)["StreamStatus"] == "ACTIVE")

    def _wait(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + CHANGED_S
        while not done() and time.monotonic() < end:
            time.sleep(0.02)

    def _tag(self, name: str, wanted: dict[str, str]) -> None:
        has = {tag["Key"] for tag in self("ListTagsForStream", name)["Tags"]}
        if stale := sorted(has - wanted.keys()):
            self("RemoveTagsFromStream", name, TagKeys=stale)
        if wanted:
            self("AddTagsToStream", name, Tags=wanted)

    def _monitor(self, name: str, wanted: set[str], has: dict[str, Any]) -> None:
        on = set(has["EnhancedMonitoring"][0]["ShardLevelMetrics"])
        if stale := sorted(on - wanted) if "ALL" not in wanted else []:
            self("DisableEnhancedMonitoring", name, ShardLevelMetrics=stale)
        if wanted:
            self("EnableEnhancedMonitoring", name, ShardLevelMetrics=sorted(wanted))


StreamStep = tuple[str, dict[str, Any]]


def _mode(wanted: Properties, has: dict[str, Any]) -> list[StreamStep]:
    if wanted.get("StreamModeDetails", has["StreamModeDetails"]) == has["StreamModeDetails"]:
        return []
    asked = {"StreamARN": has["StreamARN"], "StreamModeDetails": wanted["StreamModeDetails"]}
    return [("UpdateStreamMode", asked)]


def _shards(wanted: Properties, has: dict[str, Any]) -> list[StreamStep]:
    steps: list[StreamStep] = []
    if wanted.get("ShardCount", has["OpenShardCount"]) != has["OpenShardCount"]:
        asked = {"TargetShardCount": wanted["ShardCount"], "ScalingType": "UNIFORM_SCALING"}
        steps.append(("UpdateShardCount", asked))
    if wanted.get("WarmThroughputMiBps") not in (None, has.get("WarmThroughput", {}).get("TargetMiBps")):
        steps.append(("UpdateStreamWarmThroughput", {"WarmThroughputMiBps": wanted["WarmThroughputMiBps"]}))
    return steps


def _retention(wanted: Properties, has: dict[str, Any]) -> list[StreamStep]:
    steps: list[StreamStep] = []
    hours, now = wanted.get("RetentionPeriodHours", 24), has["RetentionPeriodHours"]
    if hours != now:
        way = "Increase" if hours > now else "Decrease"
        steps.append((f"{way}StreamRetentionPeriod", {"RetentionPeriodHours": hours}))
    if wanted.get("MaxRecordSizeInKiB", has["MaxRecordSizeInKiB"]) != has["MaxRecordSizeInKiB"]:
        steps.append(("UpdateMaxRecordSize", {"MaxRecordSizeInKiB": wanted["MaxRecordSizeInKiB"]}))
    return steps


def adopt(ask: Ask) -> None:
    """Make moto's CloudFormation create our streams, and refuse resources that would silently not use them.

    A stack that cannot be created leaves nothing behind. Changes moto for the whole process.
    """
    from moto.cloudformation import parsing
    from moto.cloudformation.models import CloudFormationBackend

    _undo_failed_creations(CloudFormationBackend)
    parsing.parse_resource = _checked_resources(parsing.parse_resource)

    models = parsing.get_model_map()
    models["AWS::Kinesis::Stream"] = _stream_model(ask)
    models.update((kind, _refused_model(kind)) for kind in SKIPPED_TYPES)


def _checked_resources(parse_resource: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``parse_resource``, which resolves the references of a resource, with a check of the result."""
    from moto.cloudformation.exceptions import ValidationError

    def parsed(*given: Any, **more: Any) -> Any:
        resource = parse_resource(*given, **more)
        if resource and (why := refused_resource(resource[2], resource[1])):
            raise ValidationError(message=why)
        return resource

    return parsed


def _undo_failed_creations(backend: Any) -> None:
    """Change moto's class of the backend: after an error it would keep the stack, in progress, with its resources."""
    create_stack, execute_change_set = backend.create_stack, backend.execute_change_set

    def created(self: Any, *given: Any, **more: Any) -> Any:
        before = set(self.stacks)
        try:
            return create_stack(self, *given, **more)
        except Exception:
            for stack_id in self.stacks.keys() - before:
                _discard(self, stack_id)
            raise

    def executed(self: Any, change_set_name: str, stack_name: str | None = None) -> None:
        try:
            execute_change_set(self, change_set_name, stack_name)
        except Exception:
            change_set = self.describe_change_set(change_set_name)
            if change_set.change_set_type == "CREATE":
                _discard(self, change_set.stack_id)
            raise

    backend.create_stack, backend.execute_change_set = created, executed


def _discard(backend: Any, stack_id: str) -> None:
    """Delete a stack with the resources that it has made so far."""
    stack = backend.stacks.pop(stack_id)
    for name in [name for name, export in backend.exports.items() if export.exporting_stack_id == stack_id]:
        del backend.exports[name]
    stack.resource_map.delete()


def _refused_model(kind: str) -> Any:
    from moto.cloudformation.exceptions import ValidationError
    from moto.kinesis.models import Stream as MotoStream

    class Refused(MotoStream):
        """A resource that moto does not know. Without this class moto would skip it and report a complete stack."""

        @classmethod
        def create_from_cloudformation_json(cls, *given: Any, **more: Any) -> Refused:
            raise ValidationError(message=f"The local AWS does not support {kind} in CloudFormation.")

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return True

    return Refused


def _stream_model(ask: Ask) -> Any:
    from moto.cloudformation.exceptions import ValidationError
    from moto.kinesis.models import Stream as MotoStream

    def checked(call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except KinesisError as error:
            raise ValidationError(message=f"AWS::Kinesis::Stream: {error.message}") from None

    class OurStream(MotoStream):
        """One of our streams in a stack. It extends moto's class, because CloudFormation accepts only moto's models."""

        def __init__(self, name: str, arn: str) -> None:
            self.stream_name = name
            self.arn = arn

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **more: Any
        ) -> OurStream:
            properties = cloudformation_json.get("Properties", {})
            return cls(resource_name, checked(Streams(ask, region_name).create, resource_name, properties))

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Any,
            new_resource_name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
        ) -> OurStream:
            properties, old = cloudformation_json["Properties"], original_resource.stream_name
            if properties.get("Name", old) == old:
                checked(Streams(ask, region_name).update, old, properties)
                return cls(old, original_resource.arn)
            made = cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)
            cls.delete_from_cloudformation_json(old, cloudformation_json, account_id, region_name)
            return made

        @classmethod
        def delete_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str
        ) -> None:
            checked(Streams(ask, region_name).delete, resource_name)

        def is_created(self) -> bool:
            return True

    return OurStream

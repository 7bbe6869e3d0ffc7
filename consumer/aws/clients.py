"""AWS, as the consumer needs it: clients from the standard chain, and errors that name the fix."""

from __future__ import annotations

import os
import re
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from consumer.aws import setup_errors
from pipeline.errors import UserError

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError


class Aws:
    """boto3 clients, each made once. Credentials, region and endpoint come from the standard AWS chain."""

    def __init__(self) -> None:
        self.client = cache(self._client)

    @cached_property
    def _session(self) -> Any:
        """Made for the first client, so that a task and ``penstock doctor`` can report what is wrong with it."""
        import boto3
        import botocore.session

        from consumer.aws import descriptions

        session = botocore.session.get_session()
        # boto3 reads AWS_DEFAULT_REGION alone; the other SDKs, and KCL's JVM among them, AWS_REGION.
        region = os.environ.get("AWS_REGION") or None
        made = setup_errors.checked(lambda: boto3.Session(botocore_session=session, region_name=region))
        data_path = setup_errors.checked(lambda: session.get_config_variable("data_path"))
        session.register_component("data_loader", descriptions.loader(data_path))
        setup_errors.check_keys(setup_errors.checked(made.get_credentials))
        return made

    def _client(self, service: str) -> Any:
        from botocore.config import Config

        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
        client = setup_errors.checked(lambda: self._session.client(service, config=config))
        setup_errors.check_endpoint(client.meta.endpoint_url)
        return client

    def stream_created_s(self, stream: str) -> int:
        """Return the creation time of the stream in seconds since the epoch.

        It tells the stream from an earlier one of the same name.

        :raises UserError: if there is no such stream, no access to it, or no AWS at the endpoint.
        """
        summary = self.ask(
            f"stream {stream}", lambda: self.client("kinesis").describe_stream_summary(StreamName=stream)
        )
        return int(summary["StreamDescriptionSummary"]["StreamCreationTimestamp"].timestamp())

    def ask(self, what: str, call: Any) -> Any:
        """Return ``call()``. ``what`` names the resource in the message.

        :raises UserError: in one line, for every error of AWS.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            raise UserError(f"{what}: {one_line_of(error)}") from None


def user_error(error: Exception) -> UserError | None:
    """Return an error of AWS that nothing has caught, for the end of a command; None for any other error."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        return UserError(f"{error.operation_name}: {one_line_of(error)}")
    return UserError(one_line_of(error)) if isinstance(error, BotoCoreError) else None


def one_line_of(error: ClientError | BotoCoreError) -> str:
    """Return what is wrong, and what to do."""
    from botocore.exceptions import ClientError

    return _fix(error) if isinstance(error, ClientError) else setup_errors.explained(error)


DENIED = frozenset({"AccessDenied", "AccessDeniedException"})

_PERFORM = re.compile(r"perform: ([a-z0-9-]+:\w+)")
"""The action in IAM's message: ``User: … is not authorized to perform: dynamodb:Scan on resource: …``."""


def _fix(error: ClientError) -> str:
    said = error.response.get("Error", {})
    code, message = said.get("Code", ""), said.get("Message", "")
    if code in DENIED:
        action = _PERFORM.search(message)
        return f"access denied. Allow {action[1] if action else error.operation_name}"
    return _FIXES.get(code) or message or code


_FIXES = {
    "ResourceNotFoundException": "it does not exist in this account and region. "
    "Check the stream's name ([stream] name, or --stream), AWS_REGION and AWS_ENDPOINT_URL",
    "UnrecognizedClientException": "the credentials are not valid in this account",
    "ExpiredTokenException": "the credentials have expired",
}

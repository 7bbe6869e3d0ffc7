"""AWS, as the consumer needs it: clients from the standard chain, and errors that name the fix."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError


class Aws:
    """boto3 clients, each made once. Credentials, region and endpoint come from the standard AWS chain."""

    def __init__(self) -> None:
        import boto3
        import botocore.session

        from consumer.aws import descriptions

        session = botocore.session.get_session()
        # boto3 reads AWS_DEFAULT_REGION alone; the other SDKs, and KCL's JVM among them, AWS_REGION.
        region = os.environ.get("AWS_REGION") or None
        self._session: Any = boto3.Session(botocore_session=session, region_name=region)
        session.register_component("data_loader", descriptions.loader(session.get_config_variable("data_path")))
        self.client = cache(self._client)

    def _client(self, service: str) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
        try:
            return self._session.client(service, config=config)
        except (BotoCoreError, ValueError) as error:
            raise UserError(f"AWS is not set up: {error}. Set AWS_REGION, or a region in ~/.aws/config.") from None

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
        except ClientError as error:
            raise UserError(f"{what}: {_fix(error)}") from None
        except BotoCoreError as error:
            raise UserError(f"{what}: {error}. Check the credentials, AWS_REGION and AWS_ENDPOINT_URL.") from None


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

"""AWS, as the consumer needs it: clients from the standard chain, and errors that name the fix."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from pipeline.errors import UserError


class Aws:
    """boto3 clients, each made once. Credentials, region and endpoint come from the standard AWS chain."""

    def __init__(self) -> None:
        import boto3

        # boto3 reads AWS_DEFAULT_REGION alone; the other SDKs, and KCL's JVM among them, AWS_REGION.
        self._session: Any = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
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
            code = error.response.get("Error", {}).get("Code", "")
            raise UserError(f"{what}: {_FIXES.get(code, error.response['Error'].get('Message', code))}") from None
        except BotoCoreError as error:
            raise UserError(f"{what}: {error}. Check the credentials, AWS_REGION and AWS_ENDPOINT_URL.") from None


_FIXES = {
    "ResourceNotFoundException": "it does not exist in this account and region. "
    "Check [stream] name, AWS_REGION and AWS_ENDPOINT_URL",
    "AccessDeniedException": "access denied. "
    "Allow kinesis:DescribeStreamSummary, ListShards, GetShardIterator and GetRecords",
    "UnrecognizedClientException": "the credentials are not valid in this account",
    "ExpiredTokenException": "the credentials have expired",
}

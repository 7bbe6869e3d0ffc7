"""Errors with the codes of the Kinesis API. Clients match on the code; the text is for people."""

from __future__ import annotations


class KinesisError(Exception):
    """An error answer of Kinesis. ``code`` is sent as ``__type``; ``status`` is the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> KinesisError:
    """``InvalidArgumentException``: a member has a value that is not allowed."""
    return KinesisError("InvalidArgumentException", message)


def not_found(message: str) -> KinesisError:
    """``ResourceNotFoundException``: the stream, shard or consumer does not exist."""
    return KinesisError("ResourceNotFoundException", message)


def in_use(message: str) -> KinesisError:
    """``ResourceInUseException``: the name is taken, or the stream is not ACTIVE."""
    return KinesisError("ResourceInUseException", message)


def limit_exceeded(message: str) -> KinesisError:
    """``LimitExceededException``: a limit of the account or of the stream."""
    return KinesisError("LimitExceededException", message)


def throttled(message: str) -> KinesisError:
    """``ProvisionedThroughputExceededException``: the shard cannot serve the call now. Clients retry."""
    return KinesisError("ProvisionedThroughputExceededException", message)


def malformed(message: str) -> KinesisError:
    """``SerializationException``: the body cannot be parsed, or a member has the wrong type."""
    return KinesisError("SerializationException", message)

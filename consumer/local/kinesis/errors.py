"""Errors as the API names them. Clients match on the code; the text is for people."""

from __future__ import annotations


class KinesisError(Exception):
    """An answer that is no success: ``code`` is the ``__type`` on the wire."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> KinesisError:
    return KinesisError("InvalidArgumentException", message)


def not_found(message: str) -> KinesisError:
    return KinesisError("ResourceNotFoundException", message)


def in_use(message: str) -> KinesisError:
    return KinesisError("ResourceInUseException", message)


def limit_exceeded(message: str) -> KinesisError:
    return KinesisError("LimitExceededException", message)


def throttled(message: str) -> KinesisError:
    return KinesisError("ProvisionedThroughputExceededException", message)


def malformed(message: str) -> KinesisError:
    """The body cannot be read at all, or a member has the wrong type."""
    return KinesisError("SerializationException", message)

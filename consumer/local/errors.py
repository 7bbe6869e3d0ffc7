"""AWS's errors, as its services answer them."""

from __future__ import annotations


class AwsError(Exception):
    """One refused request: ``code`` is AWS's error type, ``status`` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def not_found(message: str) -> AwsError:
    return AwsError("ResourceNotFoundException", message)


def in_use(message: str) -> AwsError:
    return AwsError("ResourceInUseException", message)


def invalid(message: str) -> AwsError:
    return AwsError("InvalidArgumentException", message)


def limit_exceeded(message: str) -> AwsError:
    return AwsError("LimitExceededException", message)


def throttled(message: str) -> AwsError:
    return AwsError("ProvisionedThroughputExceededException", message)


def validation(field: str, value: object, constraint: str) -> AwsError:
    """What AWS's front end says of a parameter that its API model forbids."""
    text = "null" if value is None else f"'{value}'"
    name = field[:1].lower() + field[1:]
    return AwsError(
        "ValidationException",
        f"1 validation error detected: Value {text} at '{name}' failed to satisfy constraint: {constraint}",
    )

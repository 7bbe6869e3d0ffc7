"""botocore's own errors, each as one line with what to do: a profile, a file, a region, credentials, an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

PROFILE = "Correct the profile in ~/.aws/config, or choose another with AWS_PROFILE"
FILE = "Correct the file, or name another with AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE"
REGION = "Set AWS_REGION, or region in ~/.aws/config, to a region such as eu-west-1"
KEYS = "Set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
ENDPOINT = "Set AWS_ENDPOINT_URL to a URL such as http://127.0.0.1:4566, or unset it"
REACH = "Check AWS_REGION, AWS_ENDPOINT_URL and the network"

FIXES = {
    "ProfileNotFound": "Set AWS_PROFILE to a profile of ~/.aws/config or ~/.aws/credentials, or unset it",
    "ConfigParseError": FILE,
    "ConfigNotFound": FILE,
    "NoRegionError": REGION,
    "InvalidRegionError": REGION,
    "UnknownRegionError": REGION,
    "NoCredentialsError": KEYS,
    "PartialCredentialsError": KEYS,
    "SSOError": "Log in again, such as with aws sso login",
    "TokenRetrievalError": "Log in again, such as with aws sso login",
    "LoginError": "Log in again",
    "CredentialRetrievalError": PROFILE,
    "RefreshWithMFAUnsupportedError": PROFILE,
    "UnknownCredentialError": PROFILE,
    "InfiniteLoopConfigError": PROFILE,
    "MetadataRetrievalError": KEYS,
    "ProxyConnectionError": "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY",
    "SSLError": "Check AWS_CA_BUNDLE, and the scheme of AWS_ENDPOINT_URL",
    "HTTPClientError": REACH,
    "ConnectionError": REACH,
    "EndpointResolutionError": REACH,
    "ParamValidationError": "Correct the name",
    "BotoCoreError": "Correct the variable AWS_…, or the key in ~/.aws/config, that sets it",
}
"""By the name of the class, of botocore's own or of what it inherits from: the nearest counts."""


def explained(error: Exception) -> str:
    """Return the error of botocore on one line: what is wrong, and what to do."""
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    named = (FIXES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in FIXES)
    fix = ENDPOINT if said.startswith("Invalid endpoint") else next(named, PROFILE)
    return f"{said}. {fix}"


def checked(make: Callable[[], Any]) -> Any:
    """Return ``make()``: a session, credentials or a client. Where botocore reads the environment and files.

    :raises UserError: in one line, whatever botocore raises. A file that cannot be read, a command of a profile that
        does not exist, and a number that is none are errors of Python there.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return make()
    except (BotoCoreError, ClientError, ValueError, OSError, EOFError) as error:
        raise UserError(f"AWS is not set up: {explained(error)}") from None


def check_keys(credentials: Any) -> None:
    """Fetch the keys, and refuse keys that no header can hold: botocore's own error would show them.

    :raises UserError: they cannot be had, or used.
    """
    if credentials is None:
        return  # the first call says so
    keys = checked(credentials.get_frozen_credentials)
    for name in ("access_key", "secret_key", "token"):
        if (value := getattr(keys, name)) and not (value.isascii() and value.isprintable() and " " not in value):
            raise UserError(
                f"AWS is not set up: the {name.replace('_', ' ')} contains a space, a line end or another character "
                "that no key has. Copy it again"
            )


def check_endpoint(url: str) -> None:
    """:raises UserError: no request can be sent there."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"AWS is not set up: {url} is not an endpoint. {ENDPOINT}")

"""Which requests a web page may have sent from a browser on this machine. Pages of other sites are refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

CONTROL_PATHS = ("/_penstock/", "/moto-api")
"""Faults, counts of calls, and moto's own reset: whoever reaches these can break every test."""


def is_control(path: str) -> bool:
    return path.startswith(CONTROL_PATHS)


def refusal(path: str, headers: Mapping[str, str], bound: str = "") -> str | None:
    """Why the request is refused, or None. ``bound`` is the name that the server was told to listen on.

    A page of another site gives itself away by its ``Origin``. Where the page's own name leads to this machine (DNS
    rebinding), ``Host`` is that name: the control paths answer to addresses, ``localhost``, names of containers
    (without a dot, or in ``.internal``) and ``bound`` only. AWS's own paths take any ``Host``: S3 has buckets in it.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if is_control(path):
        if not _is_ours(_name(host), bound):
            return f"Host {host!r} is no name of the local AWS. Use its address, or localhost."
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"A page of {origin} must not control the local AWS."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "A page of another site must not control the local AWS."
    elif origin is not None and not is_loopback(_name(urlsplit(origin).netloc)):
        return f"A page of {origin} must not use the local AWS: only pages of this machine may."
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. Names other than localhost do not count: they may change."""
    if (address := _address(host)) is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_ours(name: str, bound: str) -> bool:
    if name.endswith(".internal"):
        return True  # host.docker.internal; no public name ends so
    return name != "" and (_address(name) is not None or is_loopback(name) or name == bound.lower() or "." not in name)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _name(netloc: str) -> str:
    """The host without its port, in lower case; empty if there is none."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""

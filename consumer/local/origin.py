"""Refuses requests that a web page of another site sends from a browser on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

CONTROL_PATHS = ("/_penstock/", "/moto-api")
"""Paths of faults, counts of calls, and moto's reset. A request to them can break every test."""


def is_control(path: str) -> bool:
    """Whether the path controls the local AWS itself; see ``CONTROL_PATHS``."""
    return path.startswith(CONTROL_PATHS)


def refusal(path: str, headers: Mapping[str, str], bound: str = "") -> str | None:
    """Return why a request is refused, or None. ``bound`` is the host name that the server listens on.

    A browser sends the site of the page as ``Origin``. With DNS rebinding the page's own name resolves to this machine,
    and ``Host`` has that name. So the control paths accept as ``Host`` only addresses, ``localhost``, names of
    containers (without a dot, or in ``.internal``) and ``bound``. Paths of AWS accept any ``Host``, because S3 clients
    put the bucket into it. A browser omits ``Origin`` for links, images and scripts; then ``Sec-Fetch-Site`` tells that
    the page is of another site.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    if is_control(path):
        if not _is_ours(_name(host), bound):
            return f"Host {host!r} is not a name of the local AWS. Use its address, or localhost."
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return f"A page of {origin} must not control the local AWS."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "A page of another site must not control the local AWS."
    elif origin is not None and not is_loopback(_name(urlsplit(origin).netloc)):
        return f"A page of {origin} must not use the local AWS. Only pages served from this machine may."
    elif origin is None and headers.get("sec-fetch-site") == "cross-site":
        return "A page of another site must not use the local AWS. Only pages served from this machine may."
    return None


def is_loopback(host: str) -> bool:
    """Whether ``host`` is a loopback address or localhost. Other names do not count: they may resolve differently."""
    if (address := _address(host)) is not None:
        return address.is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _is_ours(name: str, bound: str) -> bool:
    if name.endswith(".internal"):
        return True  # host.docker.internal; .internal is not a public domain
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

"""For clients of servers without TLS."""

from __future__ import annotations

import ssl

import httpx

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No certificate is read into it, which takes httpx 30 ms for each client, and for each call without one."""

HTTP = httpx.Client(verify=PLAIN, limits=httpx.Limits(max_keepalive_connections=0))
"""Makes a connection for each call, as ``httpx.get`` does."""

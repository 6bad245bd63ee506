"""Requests to addresses that others chose: looked up once, checked, and never led elsewhere.

A name is resolved once and *every* address it has must be public; the connection then goes to the
very address that was checked, under the name for TLS, so a name that changes its mind between check
and use gains nothing. No redirects are followed, no proxy is asked, little is read, and the time is
bounded. `ipaddress.is_global` alone is not enough: it calls NAT64 and multicast addresses global.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
MOST_READ_BYTES = 16_384

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Collection[str]]

_NEVER = tuple(
    ip_network(one)
    for one in (
        "64:ff9b::/96",  # NAT64: an IPv4 address inside, perhaps a private one
        "64:ff9b:1::/48",
        "2002::/16",  # 6to4, likewise
        "2001::/32",  # Teredo, likewise
        "192.88.99.0/24",  # 6to4 relays
    )
)


class Refused(Exception):
    """The address may not be asked; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, the address it came from, and how long it took."""

    status: int
    address: str
    took_ms: int


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, in the resolver's order.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the open Internet, and holds no other inside."""
    try:
        found: Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if any(found in network for network in _NEVER if network.version == found.version):
        return False
    is_odd = found.is_multicast or found.is_reserved or found.is_unspecified
    return found.is_global and not is_odd


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allowed: Collection[str] = (),
    look_up: Resolve = resolve,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """Post `body` to `url`.

    Args:
        allowed: hosts, as "name" or "name:port", that may be asked wherever they are and without
            TLS: for tests and for receivers on the operator's own premises.

    Raises:
        Refused: the address may not be asked.
        OSError, http.client.HTTPException: it could not be reached, or answered what is no HTTP.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    is_allowed = host in allowed or f"{host}:{port}" in allowed
    if not is_allowed and (parts.scheme != "https" or port != 443):
        raise Refused(f"expected https on port 443, found {parts.scheme} on port {port}")
    if parts.scheme not in ("https", "http") or not host or parts.username or parts.password:
        raise Refused("expected an address of the form https://name/path")
    addresses = list(look_up(host, port))
    odd = [one for one in addresses if not is_public(one)]
    if not addresses or (odd and not is_allowed):
        where = odd[0] if odd else "nowhere"
        raise Refused(f"expected a public address, found that {host} leads to {where}")
    target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    begun_s = time.monotonic()
    connection = _connection(parts.scheme, host, port, addresses[0], timeout_s)
    try:
        connection.request("POST", target, body=body, headers=dict(headers))
        response = connection.getresponse()
        response.read(MOST_READ_BYTES)
        took_ms = round((time.monotonic() - begun_s) * 1000)
        return Reply(response.status, addresses[0], took_ms)
    finally:
        connection.close()


def _connection(
    scheme: str, host: str, port: int, address: str, timeout_s: float
) -> http.client.HTTPConnection:
    """A connection named for `host` whose socket goes to `address`, checked before."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    plain = socket.create_connection((address, port), timeout=timeout_s)
    if scheme == "https":
        try:
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
    connection.sock = plain
    return connection

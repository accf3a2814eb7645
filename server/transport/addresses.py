"""`host:port` text and loopback: what transport and gossip share. Pure."""

import ipaddress

from server.errors import BadInput


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as host and port. Raises `BadInput`."""
    host, colon, port = endpoint.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise BadInput(f"not host:port: {endpoint[:100]!r}")
    return host, int(port)


def join_endpoint(host: str, port: int) -> str:
    """The text that `split_endpoint` takes apart."""
    name = host.strip("[]")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only. A name other than localhost is not
    looked up and counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

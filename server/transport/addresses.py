"""`host:port` text, which transport and gossip share. Pure."""

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

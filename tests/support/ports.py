"""Ports for programs that tests start, and that cannot choose one by themselves."""

from server.cli.local_cluster import free_places


def free_ports(count: int = 1) -> list[int]:
    """Ports that nobody listens on, for TCP and UDP, reserved until this process ends: no connection of the kernel and
    no other test process is given one of them before its program has bound it."""
    return [place.gateway for place in free_places(count)]

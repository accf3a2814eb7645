"""The parts of a node whose memory goes over, by name, in the order in which an heir inherits them: each may rely on
those before it. Activations and sessions go over by themselves (`copying.py`, `copying_sessions.py`)."""

from server.node import Node
from server.succession.ports import BequeathingPart


def parts_of(node: Node) -> dict[str, BequeathingPart]:
    """The parts of `node`."""
    parts: dict[str, BequeathingPart] = {
        "members": node.drivers.membership,
        "metrics": node.metrics,
        "neighbourhood": node.pipeline.neighbourhood,
        "judge": node.judge,
        "actors": node.system,
        "directory": node.system.directory,
    }
    if node.presence is not None:
        parts["presence"] = node.presence
    parts["gateway"] = node.gateway.going_over
    return parts

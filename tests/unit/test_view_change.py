"""The order of a view change: each part looks only at the parts before it."""

from typing import Any, cast

import pytest

from server.cluster.view import Member, View
from server.ids import Incarnation, NodeId
from server.view_change import change_view

VIEW = View((Member(NodeId("node-2"), Incarnation(2), 4, "up", "tcp:2", "", ""),))
SYSTEM = [
    "transport.set_peers",
    "system.take_view",
    "system.directory.on_view",
    "system.dispatcher.on_view",
    "system.misplaced.on_view",
    "system.orphans.on_view",
    "system.strays.on_view",
    "system.runs_over.on_view",
]
PRESENCE = ["presence.on_view"]
SESSIONS = ["gateway.pushes.on_view", "gateway.mover.on_view", "gateway.renew"]


class Noted:
    """A part of a node that notes its calls, those of its own parts too."""

    def __init__(self, name: str, notes: list[str], **fields: Any) -> None:
        self._name, self._notes = name, notes
        vars(self).update(fields)

    def __getattr__(self, part: str) -> "Noted":
        return Noted(f"{self._name}.{part}", self._notes)

    def __call__(self, *args: Any, **more: Any) -> "Noted":
        self._notes.append(self._name)
        return self


@pytest.mark.parametrize("has_sessions", [True, False])
def test_a_view_change_runs_through_all_parts_in_one_order(has_sessions: bool) -> None:
    notes: list[str] = []
    peers: dict[Any, str] = {}
    me = next(
        iter(View((Member(NodeId("node-1"), Incarnation(1), 4, "up", "tcp:1", "", ""),)).members.values())
    ).address
    catalog = Noted("catalog", [], live={})
    system = Noted("system", notes, view=View(()), me=me, catalog=catalog)
    transport = Noted(
        "transport", notes, set_peers=lambda now: (notes.append("transport.set_peers"), peers.update(now))
    )
    change_view(
        VIEW,
        transport=cast(Any, transport),
        system=cast(Any, system),
        presence=cast(Any, Noted("presence", notes)) if has_sessions else None,
        gateway=cast(Any, Noted("gateway", notes)) if has_sessions else None,
        admin=cast(Any, Noted("admin", notes)),
    )
    assert notes == [*SYSTEM, *((*PRESENCE, *SESSIONS) if has_sessions else ()), "admin"]
    assert list(peers.values()) == ["tcp:2"]

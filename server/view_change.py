"""A view change: the whole of what a node does when its view is another, in one function and one order.

Each part looks only at the parts before it, so after each line the node is consistent up to there:

    peers          links to who came; requests to who went fail at once instead of at their deadline
    slot table     who owns a slot, a pure function of the view: from here on every look-up here gives the new owner
    directory      slots that went are frozen and handed off; those that came wait for their entries
    calls          forget places that are gone; what waited for an owner is tried again, by the new table
    activations    which of them are misplaced now and migrate; whether somebody may have left orphans
    presence       players are told to the new owners of their slots, and asked there; who has vanished makes unknown
    sessions       pushes also try where a session was before; sessions that belong elsewhere move, spread over
                   time; what they watch is attached at its new place
    admin          watches of operators

Nodes need not change their view at the same moment, nor go through the same views: each node-to-node message of
the directory carries the digest of its sender's view, and a receiver with another one holds it, refuses it or
says so. That is the useful half of virtual synchrony (Birman & Joseph 1987): events are ordered against view
changes on every node; agreement on the views themselves is not needed, since safety comes from the store.
"""

from collections.abc import Callable

from server.catalog.system import ActorSystem
from server.cluster.view import View
from server.presence.engine import PresenceEngine
from server.sessions.gateway import Gateway
from server.transport.ports import Transport


def change_view(
    view: View,
    *,
    transport: Transport,
    system: ActorSystem,
    presence: PresenceEngine | None = None,
    gateway: Gateway | None = None,
    admin: Callable[[], None] | None = None,
) -> None:
    """Take `view`, whose digest differs from the one before. Without a gateway there are no sessions."""
    before = system.view
    peers = {member.address: member.transport for member in view.members.values()}
    peers.pop(system.me, None)
    transport.set_peers(peers)
    system.take_view(view)
    system.directory.on_view(view)
    system.dispatcher.on_view()
    system.misplaced.on_view(system.catalog.live.values())
    system.orphans.on_view(before, view)
    system.strays.on_view(before, view)
    system.runs_over.on_view(before, view)
    if presence is not None:
        presence.on_view(view)
    if gateway is not None:
        gateway.pushes.on_view(view)
        gateway.mover.on_view()
        gateway.renew(hurry=True)
    if admin is not None:
        admin()

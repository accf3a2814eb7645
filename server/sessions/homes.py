"""The home of a player or a session: the node that owns its slot, or any other once this node leaves.

A player's session belongs on the node that owns the slot of the player's actor. Sessions without an actor (host,
service) stay where they connect until that node leaves: then all that it has go to the others.
"""

from server.cluster.view import Member
from server.ids import ActorId
from server.sessions.ports import NodeView
from server.sessions.session import Session
from server.sessions.transfer import Target


class Homes:
    """The rules of one node, in its present view."""

    def __init__(self, node: NodeView) -> None:
        self._node = node

    @property
    def leaving(self) -> bool:
        """True when this node is leaving: it takes no session in, and all that it has have to go."""
        me = self._node.view.addresses.get(self._node.me)
        return me is not None and me.state == "leaving"

    def of_actor(self, actor: ActorId) -> Member | None:
        """The owner of an actor's slot, if it is another node that serves clients."""
        owner = self._node.owner(actor)
        if owner is None or owner == self._node.me:
            return None
        member = self._node.view.addresses.get(owner)
        return member if member is not None and member.client_url else None

    def elsewhere(self, key: str) -> Member | None:
        """The node for a session that belongs nowhere in particular when this one leaves: the same
        node for the same `key`, in equal views."""
        return self.of_actor(ActorId(f"session/{key}")) if self.leaving else None

    def target(self, session: Session) -> Target | None:
        """The node that should have the session, if it is another one. Sessions without an
        actor, and of clients that cannot be redirected, stay until this node leaves."""
        if session.actor is None:
            member = self.elsewhere(session.resume)
        elif session.stays and not self.leaving:
            return None
        else:
            member = self.of_actor(session.actor)
        if member is None:
            return None
        return Target(member.address, "" if session.stays else member.client_url)

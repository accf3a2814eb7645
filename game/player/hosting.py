"""The part of a player that hosts matches itself: `Player` is made of it. It bounds how many at a time.

A match asks its player before it makes it the host. The store knows which matches a player hosts; a match that it has
just been allowed is remembered for a moment, until the store knows that one too.
"""

from typing import Final

from game.match.codes import reject
from game.match.hosting import host_name
from game.player.parties import PartyPart
from server.actors.actor import existing

KNOWN_S: Final = 10.0
"""Time after which the store knows a new match, or there is none."""


class HostPart(PartyPart):
    """See the module's head."""

    __slots__ = ("promised",)

    def begin_hosting(self) -> None:
        """The part's own of `activated`."""
        self.promised: dict[str, float] | None = None
        """Matches that the player was allowed to host, and until when that counts; None where there were none."""

    @existing
    async def may_host(self, match: str, at_most: int) -> None:
        """See `PlayerFace.may_host`."""
        rows = await self.query_store("hosted_matches", {"host": host_name("player", self.key), "limit": at_most + 1})
        now = self.now()
        promised = {name: until for name, until in (self.promised or {}).items() if until > now}
        self.promised = promised
        if len(({row["match"] for row in rows} | set(promised)) - {match}) >= at_most:
            raise reject("hosts_too_many", f"{at_most} at a time")
        promised[match] = now + KNOWN_S

"""Short ways to send the game's messages; docs/protocol.md says what each does."""

from typing import Literal, TypeVar

from garrison._base import Request
from garrison.messages import (
    Accepted,
    Career,
    CareerGet,
    Matches,
    MatchGet,
    MatchInvite,
    MatchJoin,
    MatchLeave,
    MatchList,
    Presence,
    PresenceGet,
    PresenceSet,
    Profile,
    ProfileGet,
    ProfileSet,
    RichPresence,
    Saved,
    Scoreboard,
)

R = TypeVar("R")


class GameCalls:
    """Methods of `Client`, mixed into it. Each raises the typed errors of `Client.request`."""

    async def request(self, message: Request[R], *, timeout_s: float | None = None, retry: bool | None = None) -> R:
        """Send `message` and give its typed answer."""
        raise NotImplementedError

    async def set_presence(
        self,
        status: Literal["online", "away", "busy", "invisible"],
        activity: str = "",
        rich: RichPresence | None = None,
    ) -> Saved:
        """Choose the own status and line of rich presence, with its parts, such as
        `RichPresence(mode="Slayer", score="24-19", fields=[PresenceField("clan", "red")])`. The newest is said again in
        each new session. Raises `Rejected` (`bad_presence`) for more than 1,024 bytes of it."""
        return await self.request(PresenceSet(status, activity, rich), retry=True)

    async def get_presence(self, player: str) -> Presence:
        """A player as others see it."""
        return await self.request(PresenceGet(player), retry=True)

    async def set_profile(self, display_name: str, emblem: str = "") -> Saved:
        """Change the own stored profile; the answer names the version that holds it."""
        return await self.request(ProfileSet(display_name, emblem))

    async def get_profile(self, player: str) -> Profile:
        """A player's stored profile."""
        return await self.request(ProfileGet(player), retry=True)

    async def career(self, player: str, *, mode: str | None = None, season: str | None = None) -> Career:
        """A player's totals by mode and season, with medals by name, and its ratings; only those of `mode` or `season`,
        where one is given. Raises `NotFound` for a player of whom nothing was ever stored."""
        return await self.request(CareerGet(player, mode, season), retry=True)

    async def matches(self, limit: int = 100, cursor: str = "") -> Matches:
        """Live matches of the whole cluster, newest first. `cursor`: the `next` of the page before."""
        return await self.request(MatchList(limit, cursor), retry=True)

    async def scoreboard(self, match: str) -> Scoreboard:
        """A match's scoreboard now."""
        return await self.request(MatchGet(match), retry=True)

    async def join(self, match: str, team: int | None = None, password: str = "") -> Accepted:
        """Join a match (`team` None: the smallest team)."""
        return await self.request(MatchJoin(match, team, password))

    async def invite_to_match(self, match: str, *players: str) -> Accepted:
        """Invite players to a private match that the caller is in, where its options let participants do so."""
        return await self.request(MatchInvite(match, list(players)))

    async def leave(self, match: str) -> Accepted:
        """Leave a match."""
        return await self.request(MatchLeave(match))

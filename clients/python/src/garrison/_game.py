"""Short ways to send the game's messages; docs/protocol.md says what each does."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, TypeVar

from garrison._base import Request
from garrison.messages import (
    Accepted,
    Career,
    CareerGet,
    History,
    Matches,
    MatchGet,
    MatchHistory,
    MatchInvite,
    MatchJoin,
    MatchLeave,
    MatchList,
    MatchPage,
    MatchPageGet,
    Presence,
    PresenceGet,
    PresenceSet,
    Profile,
    ProfileGet,
    ProfileSet,
    PropertyIs,
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

    async def matches(
        self,
        limit: int = 100,
        cursor: str = "",
        *,
        mode: str = "",
        map_name: str = "",
        properties: Mapping[str, str | int | bool] | None = None,
        tags: Sequence[str] = (),
    ) -> Matches:
        """Live matches of the whole cluster that fit all that is given, newest first. `cursor`: the `next` of the page
        before, which may be shorter than `limit`."""
        wanted = [PropertyIs(name, value) for name, value in (properties or {}).items()]
        return await self.request(MatchList(limit, cursor, mode, map_name, wanted, list(tags)), retry=True)

    async def history(
        self,
        player: str | None = None,
        *,
        opponent: str | None = None,
        mode: str = "",
        map_name: str = "",
        properties: Mapping[str, str | int | bool] | None = None,
        tags: Sequence[str] = (),
        result: Literal["won", "lost", "tied"] | None = None,
        from_ms: int = 0,
        to_ms: int = 0,
        imported: bool | None = None,
        limit: int = 20,
        cursor: str = "",
    ) -> AsyncIterator[History]:
        """Pages of the matches that are over and fit all that is given, those first that ended last; each is asked for
        when it is wanted. `opponent` and `result` go with `player`; `from_ms` and `to_ms` are Unix time. `cursor`: the
        `next` of a page of the same filters, to go on from there. Raises `BadInput` for a mode or a property that no
        match has, and for a cursor of other filters."""
        wanted = [PropertyIs(name, value) for name, value in (properties or {}).items()]
        after: str | None = cursor
        while after is not None:
            filters = (player, opponent, mode, map_name, wanted, list(tags), result, from_ms, to_ms, imported)
            page = await self.request(MatchHistory(*filters, limit, after), retry=True)
            yield page
            after = page.next

    async def match_page(self, match: str, *, skip: int = 0, limit: int = 200) -> MatchPage:
        """A match that is over as it is stored, with the lines of its players from the first `skip` on. Raises
        `NotFound` for one that goes on, unless one takes part in it, `Forbidden` for a private one of others."""
        return await self.request(MatchPageGet(match, skip, limit), retry=True)

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

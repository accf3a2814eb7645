"""Moderation by a game service: bans, mutes, kicks, revoked tokens.

    moderation = garrison.Moderation(client)              the client's token is a service's
    await moderation.ban("spartan-117", "team killing", for_s=7 * 86_400)

Each act is a command: it is repeated under its number until it is answered, and carried out once. An answer means that
it is in the server's store, with a row of its log.
"""

from garrison.client import Client
from garrison.errors import BadInput
from garrison.messages import (
    ModerationBan,
    ModerationGet,
    ModerationKick,
    ModerationMute,
    ModerationRevoke,
    ModerationUnban,
    ModerationUnmute,
    StandingInfo,
)

FOR_GOOD = 2**53 - 1
"""The end, in `StandingInfo`, of a ban or a mute that has none."""


class Moderation:
    """See the module's head. A subject is the name of a player, a host or a service, whether it was ever there or not;
    a reason is a line of at most 100 characters, which the subject gets to see. All methods raise the typed errors of
    `Client.request`, and give the standing after the act."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ban(self, subject: str, reason: str = "", *, for_s: float | None = None) -> StandingInfo:
        """Let `subject` have no session, for `for_s` seconds or for good: those that it has end, new ones are refused.
        A ban in force is replaced."""
        return await self._client.request(ModerationBan(subject, reason, _length_ms(for_s)))

    async def unban(self, subject: str, reason: str = "") -> StandingInfo:
        """End a ban. Raises `Rejected` (`not_banned`), or `NotFound` where nothing was ever said of the subject."""
        return await self._client.request(ModerationUnban(subject, reason))

    async def mute(self, subject: str, reason: str = "", *, for_s: float | None = None) -> StandingInfo:
        """Hide a player's own lines and fields from others, and refuse its invitations, for `for_s` seconds or for
        good."""
        return await self._client.request(ModerationMute(subject, reason, _length_ms(for_s)))

    async def unmute(self, subject: str, reason: str = "") -> StandingInfo:
        """End a mute. Raises `Rejected` (`not_muted`), or `NotFound` where nothing was ever said of the subject."""
        return await self._client.request(ModerationUnmute(subject, reason))

    async def kick(self, subject: str, reason: str = "") -> StandingInfo:
        """End every session of `subject`, which may come back."""
        return await self._client.request(ModerationKick(subject, reason))

    async def revoke(self, subject: str, reason: str = "", *, before_ms: int = 0) -> StandingInfo:
        """Take no token of `subject` that was issued before Unix time `before_ms` (0: now), and end the sessions that
        have one."""
        return await self._client.request(ModerationRevoke(subject, reason, before_ms))

    async def standing(self, subject: str) -> StandingInfo:
        """How `subject` stands now."""
        return await self._client.request(ModerationGet(subject), retry=True)


def _length_ms(for_s: float | None) -> int:
    if for_s is None:
        return 0
    if not for_s > 0:
        raise BadInput(f"{for_s!r} s is no length of time; None is for good")
    return max(1, round(for_s * 1000))

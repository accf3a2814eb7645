"""The actor of a subject's standing: bans, mutes, kicks and revocations, by whom and why. Its key is the subject.

Written through: an answer means that the act is in the store, and its row of table `moderation_acts` with it, in one
transaction. What is to happen leaves with the answer: sessions end, wherever they are, and the player, which mirrors
its standing, is told as a fact, until it has stored that. So a login is refused by the player's own state, also one
that comes while this actor's node is gone; a ban reaches a player that never was, whose actor it makes.

    stored, then the node dies     the fact is open in the row: another node tells it; a repeated order is known
    the player's node is cut off   its sessions end with its lease; a newer activation hears the fact

A kick is a moment, not a state: it is given to every node that is reached then. Repeated under its number it ends
again the sessions that there are, since the first time may have ended with its node, between store and answer.

Hosts and services have no actor of their own that mirrors anything: the engine asks `judge` at their hello, and at
each new token (`App.standing`).
"""

from collections.abc import Iterable
from typing import Any

from game.moderation import rules
from game.moderation.face import StandingFace
from game.moderation.messages import (
    ModerationBan,
    ModerationGet,
    ModerationKick,
    ModerationMute,
    ModerationOrder,
    ModerationRevoke,
    ModerationUnban,
    ModerationUnmute,
    StandingInfo,
)
from game.moderation.state import ActName, Order
from game.player.face import PlayerFace
from server.actors.actor import Caller, Fact, FactDone, existing, fact, read_only, remote, revives, revives_at_once


def ordered(caller: Caller, act: ActName, message: ModerationOrder) -> Order:
    """The order that a service gives by `message`."""
    for_ms, before_ms = getattr(message, "for_ms", 0), getattr(message, "before_ms", 0)
    words = (caller.subject, caller.role, message.reason, for_ms, before_ms, message.lineage, message.command)
    return Order(act, *words)


class Standing(StandingFace):
    durability = "written_through"

    __slots__ = ()

    # ---- orders of services ----

    @revives_at_once
    @remote
    async def ban(self, caller: Caller, message: ModerationBan) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "ban", message))

    @existing
    async def unban(self, caller: Caller, message: ModerationUnban) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "unban", message))

    @revives
    @remote
    async def mute(self, caller: Caller, message: ModerationMute) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "mute", message))

    @existing
    async def unmute(self, caller: Caller, message: ModerationUnmute) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "unmute", message))

    @revives
    @remote
    async def kick(self, caller: Caller, message: ModerationKick) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "kick", message))

    @revives
    @remote
    async def revoke(self, caller: Caller, message: ModerationRevoke) -> StandingInfo:
        return await self._carry_out(message.id, ordered(caller, "revoke", message))

    # ---- orders of operators ----

    @revives
    @remote
    async def order(self, order: Order) -> StandingInfo:
        """Carry out `order`, once. Raises what `rules.carried_out` does."""
        return await self._carry_out(0, order)

    @revives_at_once
    @remote
    async def ban_anew(self, order: Order) -> StandingInfo:
        """Carry out an order to ban a subject who was erased under a ban that is in force: it takes the place of
        that one, and reaches whoever comes by that name after both."""
        return await self._carry_out(0, order)

    @existing
    async def lift(self, order: Order) -> StandingInfo:
        """The same for an order that takes something back: it makes no actor. Raises `NotFound` where nothing was ever
        said of the subject."""
        return await self._carry_out(0, order)

    async def _carry_out(self, request: int, order: Order) -> StandingInfo:
        number = rules.known(self.state, order)
        if number is None and rules.is_forgotten(self.state, order):
            number = await self._stored_act(order)
        if number is None:
            stamp = self.stamp()
            self.state = rules.carried_out(self.state, order, stamp, self.wall_ms(), self.is_stored)
            number = stamp.version
        self._end_sessions(order)
        return self._info(request, number)

    async def _stored_act(self, order: Order) -> int | None:
        """The number of the act of an order that this standing has forgotten, if it was carried out."""
        asked = {
            "subject": self.key,
            "principal": order.principal,
            "role": order.role,
            "lineage": order.lineage,
            "command": order.command,
        }
        rows = await self.query_store("moderation_order", asked)
        return int(rows[0]["number"]) if rows else None

    def _end_sessions(self, order: Order) -> None:
        """End what the order ends; the player, where it is reached, does so by its mirror too."""
        if order.act == "ban" and rules.lasts(self.state.banned_until_ms, self.wall_ms()):
            why = rules.because("banned", self.state.ban_reason)
            self.end_sessions(self.key, why, rules.CLOSED_BANNED, every_role=True)
        elif order.act == "kick":
            self.end_sessions(self.key, rules.because("kicked", order.reason), rules.CLOSED_KICKED, every_role=True)
        elif order.act == "revoke":
            from_ms = self.state.tokens_from_ms
            why = rules.because("revoked", order.reason)
            self.end_sessions(self.key, why, rules.CLOSED_REVOKED, from_ms, every_role=True)

    # ---- erasure ----

    @existing
    def erase(self) -> None:
        """Say nothing of the subject any more, who is erased."""
        self.state = rules.erased(self.state)
        self.release()

    @existing
    def forget(self, person: str, instead: str) -> None:
        """Keep `instead` for `person`, who is erased, in reasons and as a principal."""
        self.state = rules.forget(self.state, person, instead)

    # ---- questions ----

    @read_only
    def get(self, caller: Caller, message: ModerationGet) -> StandingInfo:
        """How the subject stands."""
        return self._info(message.id, 0)

    @read_only
    def is_muted(self) -> bool:
        """See `StandingFace.is_muted`."""
        return rules.lasts(self.state.muted_until_ms, self.wall_ms())

    @read_only
    def judge(self, caller: Caller, issued_ms: int) -> None:
        """Raises `Rejected` (`banned`, `revoked`) for a login that the standing refuses: that of `caller`, by a token
        issued at `issued_ms`."""
        state = self.state
        words = (state.banned_until_ms, state.ban_reason, state.tokens_from_ms)
        error = rules.refusal(*words, issued_ms, self.wall_ms())
        if error is not None:
            raise error

    def _info(self, request: int, act: int) -> StandingInfo:
        state = self.state
        return StandingInfo(
            request,
            self.key,
            state.banned_until_ms,
            state.ban_reason,
            state.muted_until_ms,
            state.mute_reason,
            state.tokens_from_ms,
            act,
        )

    # ---- what the player must come to know ----

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        if state.told < state.number:
            word = (state.number, state.banned_until_ms, state.ban_reason, state.muted_until_ms, state.tokens_from_ms)
            yield fact(state.number, PlayerFace, key, PlayerFace.standing, *word)

    def facts_done(self, done: list[FactDone]) -> None:
        self.state = rules.told(self.state, max(told.name.number for told in done))

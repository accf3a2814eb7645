"""The actor of a player's friends and blocks; its key is the player's. The rules are in `game/friends/rules.py`.

Each of a pair writes its own word and mirrors the other's, which it hears as a fact (`server/actors/facts.py`). So a
command is done where its player's own actor has stored it; the other side follows, whatever dies in between. To a
player who blocks an invite is told as to any other: its sender sees no difference in answer, list or time.

Written through: a list that is shown, pushed or given to the presence engine is in the store, so that nobody goes on
with one that a dead node took along; and the other side hears of it at once.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec.structs import replace

from game.friends import rules
from game.friends.face import FriendsFace
from game.friends.messages import (
    FriendsAccept,
    FriendsBlock,
    FriendsChanged,
    FriendsCommand,
    FriendsDecline,
    FriendsInvite,
    FriendsList,
    FriendsPage,
    FriendsRecent,
    FriendsRemove,
    FriendsUnblock,
    RecentPlayer,
    RecentPlayers,
)
from game.friends.rules import Act, At, Limits
from game.friends.state import FriendsState, Word
from game.messages import Saved
from game.people.codes import ERASED
from game.player.face import PlayerFace
from game.saved_commands import answer_to, remember
from server.actors.actor import Caller, Fact, FactDone, Stamp, existing, fact, read_only, remote
from server.actors.facts import Register
from server.actors.pictures import Relations
from server.errors import Rejected
from server.ids import key_of


class Friends(FriendsFace):
    durability = "written_through"
    LIMITS: ClassVar[Limits] = Limits()

    __slots__ = ()

    # ---- commands of the player ----

    @remote
    async def invite(self, caller: Caller, message: FriendsInvite) -> Saved:
        """Ask somebody to be a friend. Raises `Rejected`, and `NotFound` for a player that there is not."""
        if self._known(message) is None and message.player != self.key:
            if await self.ref(PlayerFace, self.key).ask(PlayerFace.is_muted):
                raise Rejected("muted", rules.CODES["muted"])
            await self._exists(message.player)
        return self._do("invite", message)

    @remote
    def accept(self, caller: Caller, message: FriendsAccept) -> Saved:
        return self._do("accept", message)

    @remote
    def decline(self, caller: Caller, message: FriendsDecline) -> Saved:
        return self._do("decline", message)

    @remote
    def remove(self, caller: Caller, message: FriendsRemove) -> Saved:
        return self._do("remove", message)

    @remote
    async def block(self, caller: Caller, message: FriendsBlock) -> Saved:
        """Block somebody. Raises `Rejected`, and `NotFound` for a player that there is not."""
        if self._known(message) is None and message.player != self.key:
            await self._exists(message.player)
        return self._do("block", message)

    @remote
    def unblock(self, caller: Caller, message: FriendsUnblock) -> Saved:
        return self._do("unblock", message)

    def _known(self, message: FriendsCommand) -> int | None:
        return answer_to(self.state.answered, message.lineage, message.command)

    async def _exists(self, player: str) -> None:
        """Raises `NotFound` for a player that there is not: nothing is kept for names that somebody invents."""
        if player not in self.state.links:
            await self.ref(PlayerFace, player).ask(PlayerFace.known)

    def _do(self, act: Act, message: FriendsCommand) -> Saved:
        """Carry a command out, once. Raises `Rejected`, `OutcomeUnknown` for one too old to be remembered."""
        version = self._known(message)
        if version is None:
            if message.player == self.key:
                raise Rejected("self", rules.CODES["self"])
            before = self.state
            after = rules.decide(before, act, message.player, self._at(), self.LIMITS)
            version = self.version + 1
            answered = remember(before.answered, message.lineage, message.command, version)
            self.state = replace(after, answered=answered)
            self._push_change(before, message.player)
        return Saved(message.id, self.id, version)

    # ---- reads ----

    @read_only
    def list_friends(self, caller: Caller, message: FriendsList) -> FriendsPage:
        entries, more = rules.page(self.state, message.state, message.cursor, message.limit)
        return FriendsPage(message.id, entries, more)

    @read_only
    async def recent(self, caller: Caller, message: FriendsRecent) -> RecentPlayers:
        """Players met lately. Raises `Unavailable` where the store is not reached."""
        rows = await self.query_store("recent_players", {"player": self.key})
        met: dict[str, RecentPlayer] = {}
        for row in rows:  # the newest first
            link = self.state.links.get(row["player"])
            if link is None or not rules.is_hidden(link):
                met.setdefault(row["player"], RecentPlayer(row["player"], row["match"], row["ended_ms"]))
        return RecentPlayers(message.id, list(met.values())[: message.limit])

    @read_only
    def relations(self, caller: Caller) -> Relations:
        """The friends of this player, and who is hidden from it."""
        return rules.relations(self.state)

    @read_only
    def hides(self, player: str) -> bool:
        """See `FriendsFace.hides`."""
        link = self.state.links.get(player)
        return link is not None and rules.is_hidden(link)

    @read_only
    def hidden_among(self, players: list[str]) -> list[str]:
        """See `FriendsFace.hidden_among`."""
        return [player for player in players if self.hides(player)]

    # ---- the other sides ----

    @remote
    async def hear(self, player: str, word: Register[Word]) -> None:
        """See `FriendsFace.hear`."""
        if not rules.has_heard(self.state, player):
            if player not in self.state.links and rules.is_silent(rules.said(word)):
                return
            # The word may be an older one that comes late, of a pair that was forgotten here: only its writer knows.
            word = await self.ref(FriendsFace, player).ask(FriendsFace.word, self.key)
        before = self.state
        self.state = rules.hear(before, player, word, self._at(), self.LIMITS)
        self._push_change(before, player)

    @read_only
    def word(self, player: str) -> Register[Word]:
        link = self.state.links.get(player)
        return link.mine if link is not None else rules.NO_WORD

    @staticmethod
    def facts(key: str, state: Any) -> Iterable[Fact]:
        """The words that others have not stored yet, and the number of a list of which the player does not know."""
        for player in state.untold:
            mine = state.links[player].mine
            yield fact(mine.stamp, FriendsFace, player, FriendsFace.hear, key, mine)
        if state.relations != state.told:
            number = Stamp(state.relations >> 32, state.relations & 0xFFFF_FFFF)
            yield fact(number, PlayerFace, key, PlayerFace.relations_changed, state.relations)

    def facts_done(self, done: list[FactDone]) -> None:
        for told in done:
            name, before = told.name, self.state
            if name.method == PlayerFace.relations_changed.__name__:
                number = rules.list_number(name.number)
                self.state = replace(before, told=max(before.told, number))
                continue
            other = key_of(name.to)
            if told.refused == ERASED:
                self.state = rules.forget(before, other, self._at())
            else:
                self.state = rules.heard(before, other, name.number, told.refused, self._at())
            self._push_change(before, other)

    # ---- erasure ----

    @existing
    def erase(self) -> None:
        """See `FriendsFace.erase`."""
        self.state = rules.erased(self.state)
        self.release()

    @existing
    def forget(self, person: str, instead: str) -> None:
        """See `FriendsFace.forget`."""
        before = self.state
        self.state = rules.forget(before, person, self._at())
        self._push_change(before, person)

    def _at(self) -> At:
        return At(self.stamp(), self.wall_ms(), self.is_stored)

    def _push_change(self, before: FriendsState, player: str) -> None:
        """Tell the player's sessions where its list shows another state."""
        was, link = before.links.get(player), self.state.links.get(player)
        state = link.state if link is not None else "none"
        if state != (was.state if was is not None else "none"):
            since_ms = link.since_ms if link is not None else self.wall_ms()
            self.push(self.key, FriendsChanged(0, player, state, since_ms))

"""The part of a player that others see: what its devices say, and how it shows itself to those who watch it.

Each turn that may have changed something visible ends with `show_itself`. Pictures are made when somebody wants to see
them, and the engine counts only what looks different (`Actor.show`). A heartbeat that changes nothing does not come
here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from game.match.face import MatchFace
from game.match.hidden import HiddenWord
from game.moderation.rules import FOR_GOOD
from game.player import pictures, rules, standing
from game.player.face import PlayerFace
from game.player.messages import ChosenStatus
from game.player.pictures import Device, Party, Sayings
from server.actors.pictures import Look

EXPIRY_S: Final = 0.05
"""Time after the end of a mute at which it is looked for: clocks are read in milliseconds."""


_NOWHERE: Final[tuple[Any, bool]] = (("", 0, 0), True)


class Looks(PlayerFace):
    """See the module's head. A part of `Player`."""

    __slots__ = ("_hid", "_is_shown", "here", "said")

    here: Mapping[str, Any]
    """The sessions that are here."""
    said: Sayings

    def begin_looks(self, said: Sayings = (), moved: bool = False) -> None:
        """Begin without anybody there, or with what the devices said, and what was shown, before the actor `moved`."""
        self._is_shown = moved
        place = (self.state.match, self.state.birth, self.state.member)
        self._hid: tuple[Any, bool] = (place, True) if self.state.match else _NOWHERE
        """The newest place in which the match was told that the player is hidden, or may have been by an activation
        before; and the newest word about that."""
        self.say(said)

    # ---- what devices say ----

    def say(self, said: Sayings) -> None:
        """Note what the devices say from now on."""
        self.said = said

    def choose(self, session: str, word: ChosenStatus, said: Sayings, sessions: Collection[str]) -> None:
        """Take on the status `word` that a session, one of `sessions`, has chosen by what it says, if it counts."""
        self.said = said
        if pictures.takes(said, session, sessions):
            self.state = rules.choose(self.state, word, self.wall_ms())

    def silence(self, sessions: Sequence[str]) -> None:
        """Forget what sessions said that are none of `sessions` any more: those who are left may all be away."""
        self.say(pictures.kept(self.said, sessions))
        if self.state.status == "online" and pictures.are_away(self.said, sessions):
            self.state = rules.choose(self.state, "away", self.wall_ms())

    # ---- how it looks ----

    def shown_devices(self) -> tuple[Device, ...]:
        """The sessions that are here."""
        return ()

    def shown_party(self) -> Party | None:
        """The party that the player is in, as far as it is known."""
        return None

    def shown_relations(self) -> int:
        """The number of the newest list of the player's relations that was heard of."""
        return self.state.relations

    def show_itself(self) -> None:
        """Show what is visible of the player after this turn."""
        state = self.state
        if state.match:
            self.tell_hidden()
        if not (self.here if state.status != "offline" else self._is_shown):
            return  # its row says that it is offline; or that it was here when its node died, and nobody knows that now
        if state.muted_until_ms:
            self._await_unmuted()
        self._is_shown = True
        self.show()

    def show_gone(self) -> None:
        """Show that the player is not here, also where this activation has shown nothing yet: whoever watches may have
        read the row that says it is here, knows nothing of it since, and would not look again."""
        self._is_shown = True
        self.show_itself()

    def look(self) -> Look:
        """See `Actor.look`."""
        state = self.state
        muted = state.status != "offline" and standing.is_muted(state, self.wall_ms())
        shown = pictures.pictures(state, self.said, self.shown_devices(), self.shown_party(), muted)
        return Look(shown, self.shown_relations())

    # ---- in its match ----

    def tell_hidden(self, again: bool = False) -> None:
        """Tell the match that the player is in whether it is hidden from those who do not take part. `again`: also if
        it was told so, since it may have lost its memory, or the word was lost."""
        state = self.state
        if not state.match:
            return
        place, hidden = (state.match, state.birth, state.member), rules.is_hidden(state)
        if not hidden and self._hid[0] != place and not rules.was_there_before(state):
            return
        if again or self._hid != (place, hidden):
            self._hid = (place, hidden)
            self.tell(MatchFace, state.match, MatchFace.player_hidden, HiddenWord(self.key, self.stamp(), hidden))

    # ---- mute ----

    def _await_unmuted(self) -> None:
        """Set the timer that tells when a mute is over, while the player is here."""
        now_ms = self.wall_ms()
        muted = self.state.status != "offline" and standing.is_muted(self.state, now_ms)
        if muted and self.state.muted_until_ms < FOR_GOOD:
            self.after((self.state.muted_until_ms - now_ms) / 1000 + EXPIRY_S, self.unmuted)
        else:
            self.cancel(self.unmuted)

    def unmuted(self) -> None:
        """Timer: a mute is over."""
        self.show_itself()

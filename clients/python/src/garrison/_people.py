"""Players whom the program watches: their newest presence, one picture for all watches of a client.

The server sends how each player is, with a version that names the content, and then what changes. A resumed session
goes on from a cursor, if the server knows it; else everything is asked for again, with the versions that are here, so
that only real differences come. Who is a friend the server says, too, so that friends are told from players who are
watched by name. Pure.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from garrison._base import Reply, Request
from garrison._frames import pack
from garrison._requests import Call, Requests
from garrison._retry import Chance, repeatable
from garrison._subscriptions import ASK_AGAIN_S, Subscription
from garrison._timers import Timers
from garrison.errors import BadFrame, ConnectionLost, DeadlineExceeded, GarrisonError, Overloaded
from garrison.messages import (
    PresenceChanges,
    PresenceFriends,
    PresenceUnwatch,
    PresenceWatch,
    PresenceWatched,
    SeenPlayer,
)

MOST_NAMES: Final = 400
"""Players in one request: with their versions it fits into the frames that a server takes, whatever their names."""


class Following(Subscription):
    """Players that the program watches: `names`, or friends. Changed by `People` only."""

    __slots__ = ("bad", "friends", "names", "news")

    def __init__(self, names: Iterable[str], friends: bool) -> None:
        super().__init__("presence")
        self.names, self.friends = frozenset(names), friends
        self.bad: list[str] = []
        """Names that no player can have."""
        self.news: dict[str, Any] = {}
        """News that the program has not read: the newest of each player, None of one who is no friend any more."""

    def drop(self) -> None:
        self.news = {}

    def has(self, player: str, friends: set[str]) -> bool:
        """Tell whether a player is one of these."""
        return player in self.names or (self.friends and player in friends)


class Ask:
    """A request for players until it is answered."""

    __slots__ = ("call", "friends", "names", "phase")

    def __init__(self, names: Sequence[str], friends: bool) -> None:
        self.names, self.friends = frozenset(names), friends
        self.call: Call | None = None
        self.phase = "asking"


class People:
    """See the module's head. `stir` hears of watches that have something to read."""

    def __init__(
        self, requests: Requests, timers: Timers, chance: Chance, stir: Callable[[Subscription], None]
    ) -> None:
        self._requests, self._timers, self._chance, self._stir = requests, timers, chance, stir
        self.values: dict[str, Any] = {}
        """The newest presence of each player."""
        self.friends: set[str] = set()
        self._versions: dict[str, int] = {}
        self._cursor = ""
        self._followings: dict[Following, None] = {}
        self._wanted: dict[str, int] = {}
        """Names that are watched, with the number of their watches."""
        self._asks: dict[Ask, None] = {}
        self._leaving: set[str] = set()
        """Players whose unwatch is under way."""

    @property
    def cursor(self) -> str | None:
        """The cursor to go on from in a resumed session."""
        return self._cursor or None

    @property
    def _friends_wanted(self) -> bool:
        return any(each.friends for each in self._followings)

    def picture(self, following: Following) -> dict[str, Any]:
        """The players of a watch with their newest presence, as far as it is known."""
        names = following.names | self.friends if following.friends else following.names
        return {name: self.values[name] for name in names if name in self.values}

    # ---- the program's side ----

    def follow(self, names: Iterable[str], friends: bool, now: float) -> Following:
        """Watch players. Raises `BadInput` for what cannot be sent."""
        following = Following(names, friends)
        for ask in _asks(following.names, friends):
            pack(self._request(ask))
        new = [name for name in sorted(following.names) if name not in self._wanted]
        ask_friends = friends and not self._friends_wanted
        for name in following.names:
            self._wanted[name] = self._wanted.get(name, 0) + 1
        self._followings[following] = None
        following.news = self.picture(following)
        for ask in _asks(new, ask_friends):
            self._ask(ask, now)
        self._settle()
        return following

    def leave(self, following: Following, now: float) -> None:
        """End a watch, and drop what is not read."""
        if following.phase == "closed":
            return
        following.phase = "closed"
        following.drop()
        if following in self._followings:
            self._forget(following, now)
        self._stir(following)

    def _forget(self, following: Following, now: float) -> None:
        """Unwatch players whom no other watch wants."""
        del self._followings[following]
        over = []
        for name in following.names:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name]
                over.append(name)
        friends_over = following.friends and not self._friends_wanted
        if friends_over:
            self.friends = set()
        for name in [name for name in self.values if name not in self._wanted and name not in self.friends]:
            self._drop(name)
        self._unwatch(over, friends_over, now)

    def _unwatch(self, names: Sequence[str], friends: bool, now: float) -> None:
        rest = sorted(names)
        for at in range(0, max(len(rest), int(friends)), MOST_NAMES):
            part = rest[at : at + MOST_NAMES]
            gone = PresenceUnwatch(part, friends and at == 0)
            try:
                self._requests.submit(gone, now, lambda *_, part=part: self._leaving.difference_update(part))
            except Overloaded:
                return  # unwatched when news of them come
            self._leaving.update(part)

    # ---- the server's side ----

    def on_welcome(self, goes_on: bool, now: float) -> None:
        """A session is up, which goes on watching or watches nobody."""
        asks, self._asks = list(self._asks), {}
        for ask in asks:
            if ask.call is not None and not ask.call.settled:
                if goes_on:
                    self._asks[ask] = None  # still to be sent
                    continue
                self._requests.cancel(ask.call.order)
            ask.phase = "over"
        if goes_on:
            again = [Ask(sorted(ask.names), ask.friends) for ask in asks if ask.phase == "over"]
        else:
            again = _asks(sorted(self._wanted), self._friends_wanted)
            self._cursor = ""
            self._leaving = set()
        for ask in again:
            self._ask(ask, now)
        self._settle()

    def on_changes(self, message: PresenceChanges, now: float) -> None:
        """Take in how players are now. Raises `BadFrame`, with nothing taken in, for a player's name that is none."""
        if any(type(item.player) is not str for item in message.items):
            raise BadFrame("presence.changes: a player is a string")
        strays = []
        for item in message.items:
            player = item.player
            if item.version == 0:
                self._drop(player)
            elif player not in self._wanted and player not in self.friends:
                if player not in self._leaving:
                    strays.append(player)
            elif self._versions.get(player) != item.version:
                self.values[player], self._versions[player] = item.value, item.version
                self._tell(player, item.value, self.friends)
        self._cursor = message.cursor or self._cursor
        if strays:
            self._unwatch(strays, not self._friends_wanted, now)

    def on_friends(self, message: PresenceFriends) -> None:
        """Take in who the friends are now."""
        before, self.friends = self.friends, set(message.players) if self._friends_wanted else set()
        for player in before - self.friends:
            self._tell(player, None, before, friends_only=True)
        for player in self.friends - before:
            if player in self.values:
                self._tell(player, self.values[player], self.friends, friends_only=True)

    def fail_all(self, error: GarrisonError) -> None:
        """No news will come any more."""
        for following in list(self._followings):
            self._fail(following, error)

    def ask_again(self, ask: Ask, now: float) -> None:
        """The wait before another request is over."""
        if ask in self._asks and ask.call is None:
            self._ask(ask, now)

    def _drop(self, player: str) -> None:
        self.values.pop(player, None)
        self._versions.pop(player, None)

    def _tell(self, player: str, value: Any, friends: set[str], friends_only: bool = False) -> None:
        for following in self._followings:
            if following.has(player, friends) and not (friends_only and not following.friends):
                following.news[player] = value
                self._stir(following)

    def _request(self, ask: Ask) -> Request[Any]:
        seen = [SeenPlayer(player, self._versions[player]) for player in sorted(ask.names) if player in self._versions]
        if ask.friends:
            others = [player for player in self._versions if player not in self._wanted]
            seen += [SeenPlayer(player, self._versions[player]) for player in others[:MOST_NAMES]]
        return PresenceWatch(sorted(ask.names), ask.friends, seen)

    def _ask(self, ask: Ask, now: float) -> None:
        self._asks[ask] = None
        try:
            ask.call = self._requests.submit(
                self._request(ask), now, lambda call, reply, error, at: self._on_answer(ask, call, reply, error, at)
            )
        except Overloaded:
            self._timers.at(now + self._chance() * ASK_AGAIN_S, "ask", ask)

    def _on_answer(self, ask: Ask, call: Call, reply: Reply | None, error: GarrisonError | None, now: float) -> None:
        if ask.call is not call or ask not in self._asks:
            return
        ask.call = None
        if isinstance(reply, PresenceWatched):
            self._over(ask)
            self._cursor = reply.cursor
            for following in self._followings if reply.bad else ():
                following.bad += [name for name in reply.bad if name in following.names]
            self._settle()
        elif isinstance(error, DeadlineExceeded):
            self._ask(ask, now)
        elif isinstance(error, ConnectionLost):
            pass  # asked again with the next welcome
        elif error is not None and repeatable(error):
            self._timers.at(now + (error.retry_after_s or 0) + self._chance() * ASK_AGAIN_S, "ask", ask)
        elif error is not None:
            self._over(ask)
            for following in list(self._followings):
                if self._waits(following, ask):
                    self._fail(following, error)
                    self._forget(following, now)
            self._settle()

    def _over(self, ask: Ask) -> None:
        ask.phase = "over"
        del self._asks[ask]

    def _waits(self, following: Following, ask: Ask) -> bool:
        return (ask.friends and following.friends) or not ask.names.isdisjoint(following.names)

    def _settle(self) -> None:
        """Note which watches have their whole picture."""
        for following in self._followings:
            waits = any(self._waits(following, ask) for ask in self._asks)
            if waits and following.phase == "live":
                following.phase = "asking"
            elif not waits and following.phase == "asking":
                following.phase = "live"
                self._stir(following)

    def _fail(self, following: Following, error: GarrisonError) -> None:
        following.phase, following.error = "failed", error
        self._stir(following)


def _asks(names: Iterable[str], friends: bool) -> list[Ask]:
    """Requests for players, each of a size that can be sent; that for friends is the first."""
    rest = sorted(names)
    parts = [rest[at : at + MOST_NAMES] for at in range(0, len(rest), MOST_NAMES)]
    asks = [Ask(part, False) for part in parts]
    return [Ask([], True), *asks] if friends else asks

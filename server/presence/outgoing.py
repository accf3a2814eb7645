"""The stream of a node to one peer: ordered, acknowledged, level-triggered. Pure.

A single word is under way at a time (stop-and-wait, as in `server/directory/stream.py`). Notes say only *about whom*
something is to be told; how that player stands is looked up when the word is made, so that a thousand changes of a
player cost one item, and what was taken back because its word failed can never replace something newer. A word is
bounded in items and in bytes; between full ones there is a pause, so that a peer that gets very much to hear serves its
clients meanwhile.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec

from server.presence.bequest import BacklogBequest, OutgoingBequest, ago
from server.presence.messages import (
    MAX_ITEMS,
    HiddenPlayer,
    Order,
    PlayerAnswer,
    PresenceReply,
    PresenceWord,
    ShownPlayer,
    size_of,
)

Backoff = Callable[[int], float]


class PresenceLimits(msgspec.Struct, frozen=True):
    """Bounds and times of presence, in seconds."""

    batch: int = MAX_ITEMS // 2
    """Items in a word."""
    batch_bytes: int = 256 * 1024
    """Bytes of looks in a word, about."""
    pause_s: float = 0.01
    """Rest after a full word."""
    ping_s: float = 0.4
    """Time after which there is a word in any case: a peer that is not heard of is not believed."""
    lag_s: float = 1.0
    """Time for which something may wait to be told without the peer's knowing that its knowledge is old."""
    silent_s: float = 1.0
    """Time after which a home that is not heard of makes an owner unsure."""
    hold_s: float = 2.5
    """Time for which a watching node holds on to what it knows while no owner vouches for it; then it is "unknown"."""
    answer_s: float = 1.5
    """Time for a first answer about somebody."""
    linger_s: float = 2.5
    """Time for which a player who has moved is shown at the node before, until the new one shows it."""
    ended_s: float = 10.0
    """Time for which a home tells new owners who has ended there: several times what a record of the node before may
    live, which is `linger_s` and a word."""


LIMITS: Final = PresenceLimits()


class Truth:
    """How a node stands when a word to `peer` is made: implemented by the core."""

    def shown(self, player: str) -> ShownPlayer | None:
        """The player, if it is shown at this node."""
        raise NotImplementedError

    def answer(self, player: str) -> PlayerAnswer:
        """How the player looks, as far as this node knows."""
        raise NotImplementedError

    def belongs(self, player: str, peer: object) -> bool:
        """Whether the player's slot is `peer`'s."""
        raise NotImplementedError

    def watches(self, player: str) -> bool:
        """Whether this node watches the player."""
        raise NotImplementedError


class Backlog:
    """How old the oldest item is that a peer may not have been told, without a time for each: a stretch is all that
    waits when it begins, and is over when as many have been delivered, the oldest first."""

    __slots__ = ("_began_at", "_left", "told_to")

    def __init__(self) -> None:
        self._left, self._began_at = 0, float("-inf")
        self.told_to = float("-inf")
        """The time before which nothing was noted that is not delivered."""

    def look(self, waiting: int, now: float) -> None:
        """Note how many items wait while no word is under way."""
        if not waiting:
            self._left, self.told_to = 0, now
        elif self._left <= 0:
            self._left, self._began_at = waiting, now

    def bequeath(self, now: float) -> BacklogBequest:
        """As it goes over to the heir of this node."""
        return BacklogBequest(self._left, ago(self._began_at, now), ago(self.told_to, now))

    def inherit(self, bequest: BacklogBequest, now: float) -> None:
        """Go on from the predecessor's."""
        self._left, self._began_at = bequest.left, now - bequest.began_ago
        self.told_to = now - bequest.told_to_ago

    def delivered(self, items: int) -> None:
        """Note that so many of the oldest have been taken."""
        if self._left > 0:
            self._left -= items
            if self._left <= 0:
                self.told_to = self._began_at


class Outgoing:
    """See the module's head. Keys of `truth` are players of whose showing the peer is to hear, with the order of their
    end if they have ended; of `interest` those that this node watches or does not watch any more; of `answers` those
    that the peer watches."""

    __slots__ = (
        "_answer_backlog", "_attempt", "_late", "_limits", "_not_before", "_sent_at", "_truth_backlog", "acknowledged",
        "answers", "completed", "flight", "interest", "number", "overtaken", "said_sure", "stint", "truth",
    )  # fmt: skip

    def __init__(self, stint: int, limits: PresenceLimits) -> None:
        self._limits = limits
        self.stint, self.number = stint, 0
        self.acknowledged = False
        """The peer has taken a word of this stint."""
        self.truth: dict[str, Order] = {}
        self.interest: dict[str, None] = {}
        self.answers: dict[str, None] = {}
        self.completed = False
        """The peer knows of all who are shown here in its slots, in this view."""
        self.said_sure = False
        """The peer knows that this node is sure, and all that it had to hear before that."""
        self.overtaken = False
        """The answers in the newest reply did not come in their order: the next ones are to come in the peer's stream,
        since replies may be slower than its words for as long as the link lives."""
        self.flight: PresenceWord | None = None
        self._truth_backlog, self._answer_backlog = Backlog(), Backlog()
        self._late = False, False
        """Whether the word under way says "not complete", or "not sure", for nothing but old items that still wait."""
        self._attempt = 0
        self._not_before = self._sent_at = float("-inf")

    def restart(self, stint: int) -> None:
        """Begin a new stint: the peer knows nothing of what was said."""
        self.stint, self.number, self.acknowledged = stint, 0, False
        self.completed = self.said_sure = False
        self.hurry()

    def hurry(self) -> None:
        """End all waiting: the view has changed, so that a refusal may not stand any more."""
        self._attempt = 0
        self._not_before = self._sent_at = float("-inf")

    # ---- words ----

    def due(self, whole: bool, sure: bool) -> float | None:
        """The time at which there is something to send; None while a word is under way. `whole`: this node waits for
        no run that has vanished; `sure`: it may answer."""
        if self.flight is not None:
            return None
        now = self.truth or self.interest or (whole and not self.completed)
        now = now or sure != self.said_sure or (sure and self.answers)
        return self._not_before if now else max(self._not_before, self._sent_at + self._limits.ping_s)

    def compose(self, peer: object, digest: int, me: Truth, whole: bool, sure: bool, now: float) -> PresenceWord:
        """The next word, which is then under way."""
        assert self.flight is None, "one word is under way at a time (stop-and-wait)"
        self.number += 1
        self._truth_backlog.look(len(self.truth), now)
        self._answer_backlog.look(len(self.answers), now)
        room = self._limits.batch
        size = 0
        shown: list[ShownPlayer] = []
        hidden: list[HiddenPlayer] = []
        untold: list[str] = []
        for player in _first(self.truth, room):
            order = self.truth.pop(player)
            if not me.belongs(player, peer):
                untold.append(player)
            elif (here := me.shown(player)) is None:
                hidden.append(HiddenPlayer(player, *order))
            else:
                shown.append(here)
                size += size_of(here.looks)
                if size > self._limits.batch_bytes:
                    break
        watched: list[str] = []
        unwatched: list[str] = []
        for player in _first(self.interest, room):
            del self.interest[player]
            (watched if me.belongs(player, peer) and me.watches(player) else unwatched).append(player)
        answers: list[PlayerAnswer] = []
        for player in _first(self.answers, room) if sure else ():
            if size > self._limits.batch_bytes:
                break
            del self.answers[player]
            answers.append(me.answer(player))
            size += size_of(answers[-1].looks)
        self._sent_at = now
        latest = now - self._limits.lag_s
        complete = whole and (self.completed or not self.truth)
        sure = sure and (self.said_sure or not self.answers)
        self._late = (
            complete and bool(self.truth) and self._truth_backlog.told_to < latest,
            sure and bool(self.answers) and self._answer_backlog.told_to < latest,
        )
        self.flight = PresenceWord(
            self.stint,
            self.number,
            not self.acknowledged,
            digest,
            shown,
            hidden,
            untold,
            complete and not self._late[0],
            watched,
            unwatched,
            answers,
            sure and not self._late[1],
            not self.overtaken,
        )
        return self.flight

    def reply(self, asked: list[str], me: Truth) -> PresenceReply:
        """A reply to a word of the peer that asks about these players and reads answers in replies: with as many as
        there is room for, or with none while a word of this stream is under way, which they might overtake. The others
        are answered in the stream."""
        answers: list[PlayerAnswer] = []
        if self.flight is None and self.acknowledged:
            size = 0
            for player in asked[: self._limits.batch]:
                if player not in self.answers:
                    continue
                del self.answers[player]
                answers.append(me.answer(player))
                size += size_of(answers[-1].looks)
                if size > self._limits.batch_bytes:
                    break
        return PresenceReply("taken", self.stint, self.number, answers)

    def delivered(self, word: PresenceWord, digest: int, sure: bool, now: float) -> None:
        """Close the word under way, which was taken. `digest` and `sure`: as this node stands now."""
        self.flight = None
        self.acknowledged = True
        self._attempt = 0
        self._truth_backlog.delivered(len(word.shown) + len(word.hidden) + len(word.untold))
        self._answer_backlog.delivered(len(word.answers))
        self.completed = (word.complete or self._late[0]) and word.digest == digest
        self.said_sure = (word.sure or self._late[1]) and word.digest == digest and sure
        if self.truth or self.interest or self.answers:
            self._not_before = now + self._limits.pause_s

    def failed(self, word: PresenceWord, now: float, backoff: Backoff) -> None:
        """Take back the word under way, which may not have arrived."""
        self.flight = None
        self.take_back(word)
        self._not_before = now + backoff(self._attempt)
        self._attempt += 1

    def take_back(self, word: PresenceWord) -> None:
        """Note again what `word` told."""
        self.truth, self.interest, self.answers = self._with(word)

    def _with(self, word: PresenceWord) -> tuple[dict[str, Order], dict[str, None], dict[str, None]]:
        """`truth`, `interest` and `answers`, and what `word` has of them."""
        told: dict[str, Order] = {item.player: (0, 0) for item in word.shown}
        told.update({item.player: (item.epoch, item.n) for item in word.hidden})
        told.update(dict.fromkeys(word.untold, (0, 0)))
        interest = {**dict.fromkeys(word.watched), **dict.fromkeys(word.unwatched), **self.interest}
        answers = {**{item.player: None for item in word.answers}, **self.answers}
        return {**told, **self.truth}, interest, answers

    # ---- going over ----

    def bequeath(self, now: float) -> OutgoingBequest:
        """All of it, for the heir of this node; a word under way is as one that failed, and may go again at once."""
        truth, interest, answers = self.truth, self.interest, self.answers
        if self.flight is not None:
            truth, interest, answers = self._with(self.flight)
        return OutgoingBequest(
            self.stint,
            self.number,
            self.acknowledged,
            truth,
            list(interest),
            list(answers),
            self.completed,
            self.said_sure,
            self._truth_backlog.bequeath(now),
            self._answer_backlog.bequeath(now),
            self._attempt,
            max(0.0, self._not_before - now),
            ago(self._sent_at, now),
        )

    def inherit(self, bequest: OutgoingBequest, now: float) -> None:
        """Go on from what the predecessor had to say."""
        self.stint, self.number, self.acknowledged = bequest.stint, bequest.number, bequest.acknowledged
        self.truth, self.interest = bequest.truth, dict.fromkeys(bequest.interest)
        self.answers = dict.fromkeys(bequest.answers)
        self.completed, self.said_sure = bequest.completed, bequest.said_sure
        self._truth_backlog.inherit(bequest.truth_backlog, now)
        self._answer_backlog.inherit(bequest.answer_backlog, now)
        self._attempt, self._not_before = bequest.attempt, now + bequest.wait_s
        self._sent_at = now - bequest.sent_ago


def _first(some: dict[str, Order] | dict[str, None], most: int) -> list[str]:
    return list(some) if len(some) <= most else list(islice(some, most))

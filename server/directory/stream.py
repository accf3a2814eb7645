"""The stream of a node to the directory of one peer: ordered and numbered. Pure.

A single message is under way at a time. Its contents are taken back if it fails and go out again
under a new number, so that a late message can be told from a new one (stop-and-wait). Whether an activation
lives is looked up when the message is made, not when its change was noted: the newest word on it
is the truth of that moment, and a thousand changes of one activation cost one word.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final, TypeVar

import msgspec

from server.cluster.slots import Slots
from server.directory.bequest import FrozenBequest, StreamBequest
from server.directory.messages import Handoff, Word, WordAnswer, pack, unpack
from server.ids import ActorId, NodeAddress, slot


class DirectoryLimits(msgspec.Struct, frozen=True):
    """Bounds of a stream to a peer."""

    batch: int = 5_000
    """Ids of a sort in a message, and entries in a handoff."""
    asks: int = 64
    """Questions in a message."""
    waiting: int = 200_000
    """Deaths and doubts that may wait for a peer. Past it no more are noted: a wrong entry costs one
    redirect and heals then. (Births are bounded by the activations themselves.)"""


LIMITS: Final = DirectoryLimits()

Backoff = Callable[[int], float]
T = TypeVar("T")


class FrozenSlots(msgspec.Struct):
    """Slots on their way to another owner, with their entries. `digest` and `unsure` are as of the
    freezing; `not_before` is the time to offer it again."""

    slots: Slots
    unsure: Slots
    entries: dict[ActorId, NodeAddress]
    digest: int
    tries: int = 0
    not_before: float = 0.0


class Stream:
    """See the module's head. `truth`: ids whose state is to be told, and whether with a claim. `listed`,
    `unlisted`, `asks` and `told` go into the fields of a `Word` of these names."""

    def __init__(self, limits: DirectoryLimits = LIMITS) -> None:
        self._limits = limits
        self.truth: dict[ActorId, bool] = {}
        self.later: dict[ActorId, bool] = {}  # refused, or doubtful: once more at `later_at`
        self.listed: dict[ActorId, None] = {}
        self.unlisted: dict[ActorId, None] = {}
        self.asks: dict[int, Slots] = {}
        self.told: dict[int, None] = {}
        self.frozen: dict[int, FrozenSlots] = {}
        self.flight: Word | None = None
        self.afresh = False  # the peer is to forget what it heard
        self._attempt = self._refusals = 0
        self._not_before = self._later_at = 0.0

    # ---- notes ----

    def tell(self, identity: ActorId, lives: bool, claim: bool = False) -> None:
        """Tell the peer whether `identity` is here, as it then is; `claim`: to be registered in any case."""
        if lives or len(self.truth) < self._limits.waiting:
            self.truth[identity] = claim or self.truth.get(identity, False)

    def check(self, identity: ActorId, listed: bool) -> None:
        """Ask whether `identity` is with the peer, as it is (or is not) listed here."""
        where = self.listed if listed else self.unlisted
        if len(where) < self._limits.waiting:
            where[identity] = None

    def postpone(self, identity: ActorId, claim: bool, now: float, backoff: Backoff) -> None:
        """Tell the peer of `identity` again after a while."""
        if not self.later:
            self._refusals += 1
            self._later_at = now + backoff(self._refusals)
        self.later[identity] = claim

    def hurry(self) -> None:
        """End all waiting: the view has changed, so that a refusal or failure may not stand any more."""
        self._attempt = self._refusals = 0
        self._not_before = self._later_at = 0.0
        for frozen in self.frozen.values():
            frozen.tries, frozen.not_before = 0, 0.0

    def ids(self) -> dict[ActorId, bool]:
        """Every id that is to be told or is being told."""
        flying = self._flying(self.flight) if self.flight is not None else {}
        return {**flying, **self.later, **self.truth}

    @staticmethod
    def _flying(word: Word) -> dict[ActorId, bool]:
        return {**dict.fromkeys(word.born, False), **dict.fromkeys(word.claimed, True)}

    # ---- messages ----

    def due(self) -> float | None:
        """The time at which there is something to send; None for nothing."""
        if self.flight is not None:
            return None
        now = self.truth or self.listed or self.unlisted or self.asks or self.told or self.afresh
        times = [0.0] if now else [frozen.not_before for frozen in self.frozen.values()]
        if self.later:
            times.append(self._later_at)
        return max(self._not_before, min(times)) if times else None

    def compose(self, number: int, digest: int, lives: Callable[[ActorId], bool], me: NodeAddress, now: float) -> Word:
        """The next message, which is then under way."""
        assert self.flight is None, "one message is under way at a time (stop-and-wait)"
        if self.later and self._later_at <= now:
            self.truth, self.later = {**self.later, **self.truth}, {}
        batch = self._limits.batch
        born: list[ActorId] = []
        claimed: list[ActorId] = []
        gone: list[ActorId] = []
        for identity, claim in _pop(self.truth, batch):
            (gone if not lives(identity) else claimed if claim else born).append(identity)
        self.flight = Word(
            number,
            digest,
            born,
            claimed,
            gone,
            [identity for identity, _ in _pop(self.listed, batch)],
            [identity for identity, _ in _pop(self.unlisted, batch)],
            [(question, pack(slots)) for question, slots in islice(self.asks.items(), self._limits.asks)],
            [] if self.truth else list(self.told),
            self._handoff(lives, me, now),
            self.afresh,
        )
        self.afresh = False
        return self.flight

    def _handoff(self, lives: Callable[[ActorId], bool], me: NodeAddress, now: float) -> Handoff | None:
        for number, frozen in self.frozen.items():
            if frozen.not_before <= now:
                by_home: dict[NodeAddress, list[ActorId]] = {}
                for identity, home in frozen.entries.items():
                    if home != me or lives(identity):
                        by_home.setdefault(home, []).append(identity)
                entries = [(home.node, home.incarnation, ids) for home, ids in by_home.items()]
                oldest = next(iter(self.frozen))
                return Handoff(number, oldest, frozen.digest, pack(frozen.slots), pack(frozen.unsure), entries)
        return None

    def failed(self, now: float, backoff: Backoff) -> None:
        """Take back the message under way, which may not have arrived."""
        word, self.flight = self.flight, None
        assert word is not None
        self.truth, self.listed, self.unlisted, self.afresh = self._with(word)
        self._attempt += 1
        self._not_before = now + backoff(self._attempt)

    def _with(self, word: Word) -> tuple[dict[ActorId, bool], dict[ActorId, None], dict[ActorId, None], bool]:
        """`truth`, `listed`, `unlisted` and `afresh`, and what `word` has of them."""
        truth = {**dict.fromkeys(word.gone, False), **self._flying(word), **self.truth}
        truth.update(dict.fromkeys(word.claimed, True))
        listed = {**dict.fromkeys(word.listed), **self.listed}
        unlisted = {**dict.fromkeys(word.unlisted), **self.unlisted}
        return truth, listed, unlisted, self.afresh or word.afresh

    def delivered(self, answer: WordAnswer, now: float, backoff: Backoff) -> Word:
        """Close the message under way, which was answered, and return it."""
        word, self.flight = self.flight, None
        assert word is not None
        self._attempt = 0
        for question, _ in word.asks:
            self.asks.pop(question, None)
        for question in word.told:
            self.told.pop(question, None)
        frozen = self.frozen.get(word.handoff.number) if word.handoff is not None else None
        if word.handoff is not None and frozen is not None:
            if answer.handoff == "done":
                del self.frozen[word.handoff.number]
            else:
                frozen.tries += 1
                frozen.not_before = now + backoff(frozen.tries)
        return word

    # ---- going over ----

    def bequeath(self, peer: NodeAddress, now: float) -> StreamBequest:
        """All of it; a word under way is as one that failed, and may go again at once."""
        word = self.flight
        truth, listed, unlisted, afresh = self.truth, self.listed, self.unlisted, self.afresh
        if word is not None:
            truth, listed, unlisted, afresh = self._with(word)
        frozen = [
            FrozenBequest(
                number, pack(it.slots), pack(it.unsure), by_home(it.entries), it.digest, it.tries, it.not_before - now
            )
            for number, it in self.frozen.items()
        ]
        asks = {question: pack(slots) for question, slots in self.asks.items()}
        return StreamBequest(
            peer, truth, self.later, list(listed), list(unlisted), asks, list(self.told), frozen, afresh,
            self._attempt, self._refusals, _left(self._not_before, now), _left(self._later_at, now),
        )  # fmt: skip

    def inherit(self, bequest: StreamBequest, now: float) -> None:
        """Go on from what another process had to say."""
        self.truth, self.later, self.afresh = bequest.truth, bequest.later, bequest.afresh
        self.listed, self.unlisted = dict.fromkeys(bequest.listed), dict.fromkeys(bequest.unlisted)
        self.asks = {question: unpack(slots) for question, slots in bequest.asks.items()}
        self.told = dict.fromkeys(bequest.told)
        for it in bequest.frozen:
            entries = {identity: home for home, some in it.entries for identity in some}
            self.frozen[it.number] = FrozenSlots(
                unpack(it.slots), unpack(it.unsure), entries, it.digest, it.tries, now + it.wait_s
            )
        self._attempt, self._refusals = bequest.attempt, bequest.refusals
        self._not_before, self._later_at = now + bequest.wait_s, now + bequest.later_wait_s

    @property
    def empty(self) -> bool:
        return self.flight is None and self.due() is None


def _pop(some: dict[ActorId, T], most: int) -> list[tuple[ActorId, T]]:
    """Take the first `most` of `some` out."""
    if len(some) <= most:
        taken = list(some.items())
        some.clear()
        return taken
    taken = list(islice(some.items(), most))
    for identity, _ in taken:
        del some[identity]
    return taken


def by_home(entries: dict[ActorId, NodeAddress]) -> list[tuple[NodeAddress, list[ActorId]]]:
    """`entries` by where the activations live."""
    homes: dict[NodeAddress, list[ActorId]] = {}
    for identity, home in entries.items():
        homes.setdefault(home, []).append(identity)
    return list(homes.items())


def _left(at: float, now: float) -> float:
    """Seconds until `at`; 0 where it is over."""
    return max(0.0, at - now)


def parts(
    slots: Slots, entries: dict[ActorId, NodeAddress], batch: int
) -> list[tuple[Slots, dict[ActorId, NodeAddress]]]:
    """`slots` with their entries, cut between slots so that none has much more than `batch` entries."""
    if len(entries) <= batch:
        return [(slots, entries)]
    ordered = sorted((slot(identity), identity) for identity in entries)
    cuts = sorted({number for number, _ in ordered[batch::batch]})
    out = []
    for low, high in zip([0, *cuts], [*cuts, int(slots[-1]) + 1], strict=True):
        inside = slots[(slots >= low) & (slots < high)]
        ids = [identity for number, identity in ordered if low <= number < high]
        out.append((inside, {identity: entries[identity] for identity in ids}))
    return [(inside, some) for inside, some in out if len(inside)]

"""Players who are shown and nodes that watch them: one node's part, without I/O. Pure.

Three sides
    Home      an activation of this node shows itself (`Actor.show`, `home_players.py`). How it looks is asked when a
              word or an answer is made of it: however often it changes, pictures are made for those only who are to
              see them.
    Owner     the owner of a player's slot, by the node's view, knows who of its slots is shown, and where; and which
              *nodes* watch whom. A node is one watcher, however many sessions it serves.
    Watching  an entry a player that sessions here watch (`watching.py`).
    A home tells the owner, and the owner tells the watching nodes, each in one stream (`outgoing.py`) that has the
    news of all three sides for the peer. Who is offline is in nobody's memory but that of those who watch.

What is to be true
    A watching node's entry is as the home shows itself, or it is "unknown"; what differs from that is on its way, for
    a bounded time (docs/guarantees.md). Nobody is offline because somebody has not been heard.

What counts
    A word is taken only under equal digests: both then compute the same owners, so that what is told is told to the
    right one, and what is asked is asked of the right one. Anything else is refused and comes again. Words are numbered
    in stints. A receiver that has forgotten its sender (which was out of its view for a moment, A, B, A, while the
    sender saw nothing of it) says so (`afresh`), and the sender begins a new stint with all that it has to say: nothing
    that was dropped is thought to be held.

    Whom somebody begins to watch is answered in the reply to the word that says so, where the owner can answer at once:
    a login watches its own player, and would pay for a word and its reply once more. Such an answer is no word, and
    could be overtaken by one, or overtake one that is late; so it names the last word before it, and counts only with
    who has heard that one and none after it. Who has not asks again, for an answer in the stream.

    An owner is *sure* of its slots when every member of its view has told it all, in this very view, and is heard of,
    and no member that vanished from the view may still be alive. Only then does it answer. So a new owner asks nobody:
    members tell it by themselves, and until the last has, it says nothing; and what was the home of players and has
    vanished makes all unknown, until the store says that this run is over (`dead` or `left`): then who was there is
    not. A member says that it has told all only if it does not wait for such a run itself: somebody who has just come
    does not know who is missing. Nor does it say so while anything has waited for longer than `lag_s`, on a slow link:
    what it has to tell would count as heard. One that starts waits for all runs that live in the store to come into its
    view.

    Orders: (epoch, n). Of several homes the highest order counts: epochs are issued by the store. An activation that
    ends says `closed` of its epoch, which sorts after all that it has shown; what is hidden with an order is the floor
    for whatever comes late. A player that has moved is shown at the node before for a moment longer, unless the new
    one speaks first. Homes say what has ended there to the next owner of the slot too, for `ended_s`: it may hear from
    the node before that the player is there still.

How a watching node knows that it does not know
    Each word says whether its sender is sure. An owner that has said so, and that is heard of, is trusted; one that
    does not for `hold_s` is not, and then neither is any entry of its players: "unknown" is no difference, which could
    come too late, or for those alone who are online, so that the invisible could be told from the absent. An entry
    whose slot has a new owner is believed for as long as the old one was, unless the new one answers.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from server.actors.pictures import ShownActor
from server.cluster.view import View
from server.errors import BadInput
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, slot
from server.presence import bequest
from server.presence.bequest import PeerBequest, PresenceBequest
from server.presence.going_over import PresenceGoingOver
from server.presence.heard import Floors, Heard
from server.presence.home_players import HomePlayers
from server.presence.messages import (
    CLOSED,
    Order,
    PlayerAnswer,
    PresenceReply,
    PresenceWord,
    ShownPlayer,
)
from server.presence.outgoing import LIMITS, Backoff, Outgoing, PresenceLimits, Truth
from server.presence.ports import WatchedPlayer
from server.presence.watching import Gone, WatchedPlayers

TAKEN: Final = PresenceReply("taken")
REFUSED: Final = PresenceReply("refused")
AFRESH: Final = PresenceReply("afresh")
STRANGER_S: Final = 10.0
"""Time after which a run that lives in the store, and was never in the view of this node, is none of this cluster."""
FLOORS_S: Final = 60.0
"""Time for which an owner knows at least who has ended."""
MAX_PAST: Final = 1_000
"""Peers that are out of the view and whose stints are remembered."""


class Peer:
    """Both directions between this node and another member of its view."""

    __slots__ = ("heard", "least_stint", "out")

    def __init__(self, out: Outgoing, least_stint: int) -> None:
        self.out, self.heard, self.least_stint = out, Heard(), least_stint


class PresenceCore(Truth):
    """See the module's head. `kind`: that of the session's actor. Whoever calls it drains `awake` (peers that have
    something to hear) and what `watching` notes."""

    def __init__(
        self, kind: str, gone: Gone, has_rows: bool, backoff: Backoff, limits: PresenceLimits = LIMITS
    ) -> None:
        self._prefix, self._backoff, self._limits = f"{kind}/", backoff, limits
        self.me = NodeAddress(NodeId(""), Incarnation(0))
        self.view = View(())
        self.peers: dict[NodeAddress, Peer] = {}
        self.missing: dict[NodeAddress, None] = {}
        """Members that are out of the view and may be alive all the same."""
        self.home = HomePlayers(limits.linger_s)
        self._strangers: dict[NodeAddress, float] = {}
        """Runs in `missing` that were never in the view, and until when they count."""
        self._has_begun = False
        self._floors = Floors()
        """Ends that this node has heard of as an owner of slots."""
        self.watching = WatchedPlayers(gone, has_rows, limits)
        self.own = Heard()
        """This node as the owner of slots, for its own entries."""
        self._own_answers: dict[str, None] = {}
        self.sure = False
        self.awake: dict[NodeAddress, None] = {}
        self._past: dict[NodeAddress, int] = {}
        self._stints = 0
        self.going_over = PresenceGoingOver(self.watching, self.own, self.peers)

    def start(self, me: NodeAddress, view: View | None = None) -> None:
        """Be `me`. `view`: that of the predecessor, where this node goes on in another process (`inherit`)."""
        self.me = me
        self.going_over.begin(me)
        if view is not None:
            self.view = view

    @property
    def has_begun(self) -> bool:
        """Whether it is known which runs lived in the store as this one began."""
        return self._has_begun

    def begin(self, living: Iterable[NodeAddress], now: float) -> None:
        """Note which runs live in the store as this one begins: until it has seen them, it is alone because it has
        heard nothing yet, and not because nobody is there."""
        for address in living:
            if address != self.me and not self.view.has(address) and address not in self.missing:
                self.missing[address] = None
                self._strangers[address] = now + STRANGER_S
        self._has_begun = True
        self.weigh(now)

    # ---- truth: what words are made of ----

    def slot_of(self, player: str) -> int:
        return slot(ActorId(self._prefix + player))

    def owner(self, player: str) -> NodeAddress | None:
        """The owner of the player's slot; None while no node is up."""
        return self.view.table.owner(ActorId(self._prefix + player))

    def belongs(self, player: str, peer: object) -> bool:
        """See `Truth`."""
        return self.owner(player) == peer

    def watches(self, player: str) -> bool:
        """See `Truth`."""
        return player in self.watching.entries

    def shown(self, player: str) -> ShownPlayer | None:
        """See `Truth`."""
        return self.home.of(player)

    def answer(self, player: str) -> PlayerAnswer:
        """See `Truth`."""
        best: ShownPlayer | None = None
        floor = self._floors.of(player)
        for there in (self.shown(player), *(peer.heard.shown.get(player) for peer in self.peers.values())):
            if there is None or (there.epoch and (there.epoch, there.n) <= floor):
                continue
            if best is None or (there.epoch, there.n) > (best.epoch, best.n):
                best = there
        return PlayerAnswer(player) if best is None else PlayerAnswer(player, best.relations, best.looks)

    # ---- home ----

    def show(self, player: str, shown: ShownActor) -> None:
        """Let `player` look as `shown` does, its activation here: it may look different now."""
        self.home.show(player, shown)
        self._tell(player, (0, 0))

    def withdraw(self, player: str, order: Order) -> None:
        """Note that `player` is not here any more, as its activation says."""
        self.home.withdraw(player, order)
        self._tell(player, order)

    def hide(self, player: str, epoch: int, moved: bool, now: float) -> None:
        """The activation with `epoch` has ended here: note that, unless another one shows the player already."""
        order = self.home.hide(player, epoch, moved, now)
        if order is not None:
            self._tell(player, order)

    def _tell(self, player: str, order: Order) -> None:
        """Let the owner of the slot hear about a player of this node; `order`: of its end."""
        owner = self.owner(player)
        if owner == self.me:
            self._floors.raise_to(player, order)
            self._changed(player)
        elif owner is not None and (peer := self.peers.get(owner)) is not None:
            peer.out.truth[player] = max(order, peer.out.truth.get(player, order))
            self.awake[owner] = None

    # ---- owner ----

    def _changed(self, player: str) -> None:
        """Let all who watch `player` hear of it."""
        for address, peer in self.peers.items():
            if player in peer.heard.interest:
                peer.out.answers[player] = None
                self.awake[address] = None
        if player in self.watching.entries:
            self._own_answers[player] = None

    def _supersede(self, vanished: Iterable[ShownPlayer]) -> None:
        """Let nothing older count for players whose home has vanished: a home before may show them still, as moved."""
        for here in vanished:
            others = (self.shown(here.player), *(peer.heard.shown.get(here.player) for peer in self.peers.values()))
            if any(other is not None and other.epoch < here.epoch for other in others):
                self._floors.raise_to(here.player, (here.epoch - 1, CLOSED))

    def _changed_all(self, players: Iterable[str]) -> None:
        for player in players:
            self._changed(player)

    def _is_whole(self) -> bool:
        return self._has_begun and not self.missing

    def weigh(self, now: float) -> None:
        """Find out whether this node is sure of its slots now, and answer its own entries if it is."""
        digest, latest = self.view.digest, now - self._limits.silent_s
        sure = self._is_whole() and self.view.has(self.me)
        sure = sure and all(peer.heard.complete == digest and peer.heard.at >= latest for peer in self.peers.values())
        if sure != self.sure:
            self.sure = sure
            for address, peer in self.peers.items():
                peer.out.said_sure = peer.out.said_sure and sure
                self.awake[address] = None
        if sure:
            self.flush(now)
            self.watching.trust(self.own, now)

    @property
    def has_own_answers(self) -> bool:
        """Whether own entries wait for `flush`."""
        return bool(self._own_answers)

    def flush(self, now: float) -> None:
        """Answer this node's own entries, as far as it may."""
        if not self.sure or not self._own_answers:
            return
        asked, self._own_answers = self._own_answers, {}
        for player in asked:
            entry = self.watching.entries.get(player)
            if entry is not None and self._owner_of(entry) == self.me:
                self.watching.answer(entry, self.own, self.answer(player), now)

    def are_over(self, runs: Iterable[NodeAddress], now: float) -> None:
        """Note that `runs`, which are missing, are over in the store: nobody is there any more."""
        for address in runs:
            self._strangers.pop(address, None)
            self.missing.pop(address, None)
        for address in self.peers:
            self.awake[address] = None
        self.weigh(now)

    # ---- watching ----

    def watch(self, players: Sequence[str], now: float) -> list[WatchedPlayer]:
        """The entries of `players`, in order; those that are new ask."""
        entries = []
        for player in players:
            entry = self.watching.entries.get(player)
            if entry is None:
                entry = self.watching.add(player, self.slot_of(player), now)
                self._ask(entry)
            entries.append(entry)
        self.flush(now)
        return entries

    def release(self, entry: WatchedPlayer) -> None:
        """Watch that player no more."""
        if self.watching.remove(entry):
            self._own_answers.pop(entry.player, None)
            self._ask(entry)

    def _owner_of(self, entry: WatchedPlayer) -> NodeAddress | None:
        return self.view.table.owner_of_slot(entry.slot)

    def _ask(self, entry: WatchedPlayer) -> None:
        """Let the owner of an entry's slot know that it is watched here now, or not any more."""
        owner = self._owner_of(entry)
        if owner == self.me:
            if entry.player in self.watching.entries:
                self._own_answers[entry.player] = None
        elif owner is not None and (peer := self.peers.get(owner)) is not None:
            peer.out.interest[entry.player] = None
            self.awake[owner] = None

    # ---- the view ----

    def on_view(self, view: View, now: float) -> None:
        """Follow a changed view: members come and go, slots have other owners."""
        before, self.view = self.view, view
        self._part_with_who_left()
        fresh = self._meet_who_came()
        for peer in self.peers.values():
            peer.out.completed = peer.out.said_sure = False
            peer.out.hurry()
        self._tell_new_owners(before, fresh)
        self._ask_new_owners(before, fresh, now)
        self.awake.update(dict.fromkeys(self.peers))
        self.weigh(now)

    def _part_with_who_left(self) -> None:
        """Let nothing count that was heard from peers who are out of the view now; they may be alive all the same."""
        for address in [address for address in self.peers if not self.view.has(address)]:
            peer = self.peers.pop(address)
            self.awake.pop(address, None)
            self._past.pop(address, None)
            self._past[address] = max(peer.heard.stint, peer.least_stint - 1)
            if len(self._past) > MAX_PAST:
                del self._past[next(iter(self._past))]
            self.missing[address] = None
            self._supersede(peer.heard.shown.values())
            self._changed_all(peer.heard.shown)

    def _meet_who_came(self) -> set[NodeAddress]:
        """Begin a stint with each new member of the view. Returns their addresses: they know nothing yet."""
        came = [address for address in self.view.addresses if address != self.me and address not in self.peers]
        for address in came:
            self._stints += 1
            peer = Peer(Outgoing(self._stints, self._limits), self._past.get(address, 0) + 1)
            self.missing.pop(address, None)
            self._strangers.pop(address, None)
            self.peers[address] = peer
        return set(came)

    def _tell_new_owners(self, before: View, fresh: set[NodeAddress]) -> None:
        """As a home, tell new owners of slots, and the old ones, who is shown here; and the new ones who has ended."""
        view = self.view
        for player in self.home.shown:
            identity = ActorId(self._prefix + player)
            was, now_at = before.table.owner(identity), view.table.owner(identity)
            if was == now_at and now_at not in fresh:
                continue
            for owner in (was, now_at):
                if owner is not None and (there := self.peers.get(owner)) is not None:
                    there.out.truth.setdefault(player, (0, 0))
            if now_at == self.me:
                self._changed(player)
        for player, order in self.home.ended.items():
            identity = ActorId(self._prefix + player)
            now_at = view.table.owner(identity)
            if now_at in fresh or now_at != before.table.owner(identity):
                self._tell(player, order)

    def _ask_new_owners(self, before: View, fresh: set[NodeAddress], now: float) -> None:
        """Ask new owners of slots about who is watched here, and let the old ones know that they are not asked."""
        for entry in self.watching.entries.values():
            was, now_at = before.table.owner_of_slot(entry.slot), self._owner_of(entry)
            if was == now_at and now_at not in fresh:
                continue
            self.watching.moved(entry, now)
            if was is not None and was in self.peers:
                self.peers[was].out.interest[entry.player] = None
            self._ask(entry)

    # ---- the stream ----

    def next(self, address: NodeAddress, now: float) -> PresenceWord | None:
        """The next word to a peer, which is then under way; None if there is none now."""
        peer = self.peers.get(address)
        if peer is None:
            return None
        due = peer.out.due(self._is_whole(), self.sure)
        if due is None or due > now:
            return None
        return peer.out.compose(address, self.view.digest, self, self._is_whole(), self.sure, now)

    def due(self, address: NodeAddress) -> float | None:
        """The time of the next word to a peer; None where there is no such peer, or a word is under way."""
        peer = self.peers.get(address)
        return peer.out.due(self._is_whole(), self.sure) if peer is not None else None

    def replied(self, address: NodeAddress, word: PresenceWord, reply: PresenceReply, now: float) -> None:
        """Take in the answer to the word under way."""
        peer = self.peers.get(address)
        if peer is None or peer.out.flight is not word:
            return
        if reply.verdict == "taken":
            peer.out.overtaken = not self._take_answers(address, peer.heard, word, reply, now)
            peer.out.delivered(word, self.view.digest, self.sure, now)
        elif reply.verdict == "refused":
            peer.out.failed(word, now, self._backoff)
        else:
            self._begin_anew(address, peer, word)
        self.awake[address] = None

    def _take_answers(
        self, address: NodeAddress, heard: Heard, word: PresenceWord, reply: PresenceReply, now: float
    ) -> bool:
        """Take in the answers in a reply, if they come in their order among the words of the peer: it has made none
        since that is here already, and none before that is not. Else ask again. False: there are some that do not."""
        in_order = word.digest == self.view.digest and (reply.stint, reply.number) == (heard.stint, heard.number)
        for answer in reply.answers:
            entry = self.watching.entries.get(answer.player)
            if entry is None or self._owner_of(entry) != address:
                continue
            if in_order:
                self.watching.answer(entry, heard, answer, now)
            else:
                self._ask(entry)
        return in_order or not reply.answers

    def failed(self, address: NodeAddress, word: PresenceWord, now: float) -> None:
        """Take back the word under way, which was not answered."""
        peer = self.peers.get(address)
        if peer is not None and peer.out.flight is word:
            peer.out.failed(word, now, self._backoff)

    def _begin_anew(self, address: NodeAddress, peer: Peer, word: PresenceWord) -> None:
        """Say all again to a peer that has forgotten it."""
        self._stints += 1
        out = peer.out
        out.flight = None
        out.take_back(word)
        out.restart(self._stints)
        for player in self.home.shown:
            if self.owner(player) == address:
                out.truth.setdefault(player, (0, 0))
        for player, order in self.home.ended.items():
            if self.owner(player) == address:
                self._tell(player, order)
        for entry in self.watching.entries.values():
            if self._owner_of(entry) == address:
                out.interest[entry.player] = None
        out.answers.update(peer.heard.interest)

    def receive(self, address: NodeAddress, word: PresenceWord, now: float) -> PresenceReply:
        """Take in a word of a peer."""
        peer = self.peers.get(address)
        if peer is None or word.digest != self.view.digest:
            return REFUSED
        heard = peer.heard
        if word.stint != heard.stint:
            if word.stint < heard.stint:
                return REFUSED
            if not word.first or word.stint < peer.least_stint:
                return AFRESH
            heard = self._new_stint(address, peer, word.stint, now)
        elif word.number <= heard.number:
            return REFUSED
        heard.number, heard.at = word.number, now
        self._take_home(heard, word)
        for player in word.watched:
            heard.watch(player)
            peer.out.answers[player] = None
        for player in word.unwatched:
            heard.unwatch(player)
            peer.out.answers.pop(player, None)
        for answer in word.answers:
            entry = self.watching.entries.get(answer.player)
            if entry is not None and self._owner_of(entry) == address:
                self.watching.answer(entry, heard, answer, now)
        if word.sure:
            self.watching.trust(heard, now)
        self.weigh(now)
        reply = peer.out.reply(word.watched, self) if self.sure and word.watched and word.takes_answers else TAKEN
        if word.watched and peer.out.answers:
            self.awake[address] = None
        return reply

    def _new_stint(self, address: NodeAddress, peer: Peer, stint: int, now: float) -> Heard:
        """Forget what a peer said before: it says all of it again. Its answers are asked for again too."""
        before, peer.heard = peer.heard, peer.heard.after(stint)
        self._changed_all(before.shown)
        for entry in self.watching.entries.values():
            if self._owner_of(entry) == address:
                self.watching.moved(entry, now)
                self._ask(entry)
        peer.out.answers.clear()
        return peer.heard

    def _take_home(self, heard: Heard, word: PresenceWord) -> None:
        for here in word.shown:
            heard.show(here)
            self._changed(here.player)
        for hidden in word.hidden:
            heard.hide(hidden.player)
            self._floors.raise_to(hidden.player, (hidden.epoch, hidden.n))
            self._changed(hidden.player)
        for player in word.untold:
            heard.hide(player)
        heard.complete = word.digest if word.complete else None

    # ---- going over to the heir of this node ----

    def bequeath(self, now: float) -> bytes:
        """All that this node knows and has to say, but for who is shown by an activation here; of what was copied ahead
        what has changed since."""
        missing = [(run, self._left(self._strangers.get(run), now)) for run in self.missing]
        peers = [
            PeerBequest(address, peer.least_stint, peer.out.bequeath(now), peer.heard.bequeath(address, now))
            for address, peer in self.peers.items()
        ]
        return bequest.encode(
            PresenceBequest(
                self.me,
                self.view.digest,
                self._has_begun,
                self.sure,
                self._stints,
                peers,
                list(self._past.items()),
                missing,
                self.home.bequeath(now),
                self._floors.bequeath(now),
                self.home.ended.bequeath(now),
                self.own.bequeath(self.me, now),
                list(self._own_answers),
                self.watching.bequeath(self.going_over.owners().get, now),
                self.watching.answers,
            )
        )

    @staticmethod
    def _left(at: float | None, now: float) -> float | None:
        return None if at is None else at - now

    def inherit(self, data: bytes, now: float) -> None:
        """Go on from what the predecessor knew, under the same address and view. Raises `BadInput`."""
        it = bequest.decode(data)
        others = self.view.addresses.keys() - {self.me}
        if it.me != self.me or it.digest != self.view.digest or {there.address for there in it.peers} != others:
            raise BadInput("presence of another run, or of another view")
        self._has_begun, self.sure, self._stints = it.has_begun, it.sure, it.stints
        for there in it.peers:
            peer = self.peers[there.address] = Peer(Outgoing(there.out.stint, self._limits), there.least_stint)
            peer.out.inherit(there.out, now)
            peer.heard = self.going_over.heard(there.address, there.heard.stint)
            peer.heard.inherit(there.heard, now)
        self._past = dict(it.past)
        self.missing = {run: None for run, _ in it.missing}
        self._strangers = {run: now + left_s for run, left_s in it.missing if left_s is not None}
        self.home.inherit(it.lingering, it.ended, now)
        self._floors.inherit(it.floors, now)
        self.own.inherit(it.own, now)
        self._own_answers = dict.fromkeys(it.own_answers)
        self.watching.take_copy(it.watched, self.going_over.heard, now)
        self.watching.answers = it.answers
        self.going_over.end()
        known = {entry.player for entry in it.watched.entries}
        for entry in [entry for entry in self.watching.unanswered if entry.player not in known]:
            self._ask(entry)  # the predecessor did not watch this one
        self.awake = dict.fromkeys(self.peers)

    # ---- time ----

    def tick(self, now: float) -> None:
        """Go on where time has passed: every `TICK_S` or so."""
        for player, order in self.home.lapsed(now):
            self._tell(player, order)
        self._floors.age(now, FLOORS_S)
        self.home.ended.age(now, self._limits.ended_s)
        if strangers := [address for address, until in self._strangers.items() if until <= now]:
            self.are_over(strangers, now)
        self.weigh(now)
        self.watching.doubt(self.own, now)
        for address, peer in self.peers.items():
            self.watching.doubt(peer.heard, now)
            due = peer.out.due(self._is_whole(), self.sure)
            if due is not None and due <= now:
                self.awake[address] = None
        self.watching.tick(now)

"""The handoff protocol, which keeps the directory true while slots move: one node's side, without I/O. Pure.

Kin: the grain directory of Orleans (`DistributedGrainDirectory.cs`) and virtual synchrony (Birman and Joseph, 1987):
state is frozen at a view change and handed to the owner in the next view, and messages name their view.

What is to be true
    The directory of a slot is with the slot's owner, as every node computes it from its view. It
    lists the activations that live elsewhere (those on the owner itself need no entry). Once views
    agree and messages pass, each owner lists exactly the activations of its slots that live
    elsewhere, nobody lists anything else, and nothing waits for ever. Until then an entry may be
    wrong, which costs one redirect, or missing, which may make a second copy of a volatile actor
    for a moment. Safety does not rest here: a durable actor is claimed from the store whatever the
    directory says.

Who knows
    Only the node where an activation lives knows whether it does. What it says about its own
    activations travels to each peer in one numbered stream (`stream.py`): one message at a time,
    sent again under a new number until it is answered or the peer has left the view; what comes
    with an old number is refused. So a birth cannot overtake a death, and nothing is lost. A node
    remembers to whom it said that something is here: they hear of its end even if the slot has
    another owner by then, and if one of them is gone, the owner of now is told. What anybody else
    says (a caller that found nothing there, a directory that hands its entries over) is hearsay. It
    is acted on at once, since a quick answer is worth more than a sure one, and then checked: the
    node itself is asked, and its answer comes in its own stream. All else follows from two
    sentences: a node's word about itself is never lost and never out of order, and hearsay is
    always followed by such a word.

Messages (`messages.py`)
    Word   in the stream: born, claimed, gone (my activations, in your slots); listed, unlisted (I
           list, or do not list, these with you: say so if that is wrong); asks (what do you have in
           these slots), told (all of it has been said); a handoff; afresh (see below). The answer
           says which births were refused because the slot is not the receiver's, which have a
           rival, and whether the handoff was taken.
    Hint   one way: I looked for this there and it was not there.
    Every Word carries the sender's view digest and comes over a link that belongs to one incarnation
    of it. A sender that is not in the receiver's view is refused and tries again.

When slots move
    Lost to a live node: they are frozen. Look-ups are answered `Moved` and births refused from
    this moment, because both ask the slot table. The entries, with this node's own activations
    that were implied so far, become handoffs of about a batch of entries (`DirectoryLimits`), tagged with a number, the
    view's digest, and which of the slots this node was itself not sure of. A handoff is kept until
    it is answered `done` and offered again with a growing pause. If the view turns, its slots are
    taken back (and checked, and the members asked, as the receiver may never have had them), or go
    to who owns them now; if the receiver is gone, it is dropped.
    Gained from a live node: look-ups of them wait for its handoff. If it has not come after half of
    `wait_s` (the giver does not share this view, or is busy), every member is asked instead.
    Gained from a node that is gone, or from nobody: every member is asked at once. Look-ups wait
    for the answers or `wait_s`, whichever comes first; later answers are still taken.
    A handoff of slots that are not the receiver's, in its view, is held until its view says that
    they are, `wait_s` at most, bounded in number and bytes; the sender keeps it as well and offers
    it again. More than that is refused. What was held is old when it is taken, so all of it is
    checked, the giver's own activations as well.
    A handoff that nobody waited for (the giver held the slots in its own view only) is taken and
    checked, and so is what is listed here in its slots already.
    A handoff whose tag is another digest than the receiver's was frozen under another membership:
    the giver may have forgotten entries of a member that it took for dead. It is taken, and the
    members are asked besides. So are they for the slots that the giver was not sure of: those it
    still waited for itself, and all of them if members came to its view in the same change.

When members come and go
    With a member that leaves the view, its entries and all that was to be said to it are forgotten.
    One that comes (back) into view has perhaps lived in another view until now. It is asked what
    it has in the slots that this node keeps, and told what lives here in its slots. If there was
    talk before, this begins afresh: the receiver forgets what it heard from this node, which says
    it again, and repeats the questions that were open. (A member that is just joining and was
    never heard of has nothing, and is spared this.) After a view without any owner all is told too.

When it gets worse
    Several changes at once: slots are compared between this node's last view and its new one,
    however many changes lie between; each slot has gone from one owner to another.
    A change during a handoff: the sender sorts the handoff's slots by their owner now (see above).
    The receiver, if it loses the slots, freezes what it has and names what it still waited for.
    A receiver that dies in the middle: its heir finds that the slots came from a node that is gone
    and asks. What the sender still had is dropped: it would only be hearsay.
    Views that disagree for seconds: two nodes may both think that they own a slot and both list
    and activate. When the views meet, one of them loses the slot and hands it over; a conflict is
    decided by asking the node whose entry came second. Births that are refused are told again, to
    whoever the view names then.
    A node that returns under its old name has another incarnation, so it is another member: entries
    and streams of its old run ended with it, and a late message of the old run is refused.
    A leaving node owns no slot, so it hands everything over; it stays in the view and answers, and
    entries that point to it hold until it is gone.

Duplicates
    The registered copy of a volatile actor wins. A birth that has a rival is answered with the
    rival's address; the newcomer is dropped if it is volatile. A durable one stays (the store has
    decided), and after a pause claims the entry. What was moved on purpose claims it at once. Where
    the placement has only sent an actor somewhere, a copy that lives counts for more.

Bounds
    A look-up waits `wait_s` at most. A stream has one message under way, with at most a batch of ids of
    a sort, and pauses between failures that grow to a cap. What waits to be said is bounded by the
    activations and entries of this node; deaths and doubts beyond a limit are not noted.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.cluster.slots import Slots
from server.cluster.view import View
from server.directory import bequest
from server.directory.bequest import DirectoryBequest
from server.directory.early import EarlyHandoffs
from server.directory.going_over import DirectoryGoingOver
from server.directory.listers import Listers
from server.directory.messages import Handoff, Hint, Verdict, Word, WordAnswer, unpack
from server.directory.partition import Census, Partition, mask
from server.directory.ports import ActivationSource
from server.directory.questions import Questions
from server.directory.stream import LIMITS, Backoff, DirectoryLimits, FrozenSlots, parts
from server.directory.streams import PeerStreams
from server.errors import BadInput, Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, slot

_CENSUS_GROWTH: Final = 1_000
NOBODY: Final = NodeAddress(NodeId(""), Incarnation(0))


class HandoffCore:
    """See the module's head. Times are seconds on any one clock; `backoff` gives the pause before
    a repetition by its number; `confirm_s` is how long an activation may take to begin where the
    placement has sent it."""

    def __init__(
        self,
        source: ActivationSource,
        wait_s: float,
        confirm_s: float,
        backoff: Backoff,
        limits: DirectoryLimits = LIMITS,
    ) -> None:
        self._source, self._confirm_s, self._backoff, self._limits = source, confirm_s, backoff, limits
        self.partition = Partition()
        self.questions = Questions(wait_s)
        self.me = NOBODY
        self._view = View(())
        self.streams = PeerStreams(limits)
        self._number = 0
        self._newest: dict[NodeId, tuple[Incarnation, int]] = {}  # number of its newest message
        self._met: dict[NodeId, Incarnation] = {}  # runs of nodes that this one has talked with
        self._listers = Listers()
        self.going_over = DirectoryGoingOver(self.partition, self._listers)
        self._early = EarlyHandoffs(wait_s)
        self._placed: dict[ActorId, tuple[NodeAddress, float]] = {}
        self._census: Census | None = None

    def start(self, me: NodeAddress, view: View | None = None) -> None:
        """Begin as `me`. `view`: a view whose slots count as known, none if absent."""
        self.me = me
        self._view = view or self._view

    def owns(self, identity: ActorId) -> bool:
        return self._view.table.owner(identity) == self.me

    def _lives(self, identity: ActorId) -> bool:
        return self._source.find(identity) is not None

    def _tell(self, identity: ActorId, owner: NodeAddress | None, claim: bool = False) -> None:
        if owner is not None and owner != self.me and self._view.has(owner):
            self.streams.to(owner).tell(identity, self._lives(identity), claim)

    def _check(self, identity: ActorId, home: NodeAddress, *, listed: bool) -> None:
        if home != self.me and self._view.has(home):
            self.streams.to(home).check(identity, listed)

    # ---- births and deaths on this node ----

    def born(self, identity: ActorId, owner: NodeAddress, *, moved: bool = False) -> None:
        """Note that an activation began here, whose slot is `owner`'s. `moved`: it came from another node,
        and is registered even if its old place still is."""
        if owner == self.me:
            self._placed.pop(identity, None)
            home = self.partition.find(identity)
            if home is not None and self.partition.unregister(identity, home):
                self._check(identity, home, listed=False)
            return
        if self._census is not None:
            self._census.add(identity)
            if self._census.added > _CENSUS_GROWTH:
                self._census = None
        self._tell(identity, owner, moved)

    def died(self, identity: ActorId, owner: NodeAddress | None) -> None:
        """Note that an activation ended here, whose slot is `owner`'s. Everybody who may list it is told."""
        for listing in self._listers.pop(identity):
            self._tell(identity, listing)
        self._tell(identity, owner)

    def missed(self, identity: ActorId, address: NodeAddress) -> None:
        """Drop the entry of an actor that somebody looked for at `address` in vain, and ask that node about it."""
        if self.partition.unregister(identity, address):
            self._placed.pop(identity, None)
            self._check(identity, address, listed=False)

    def place(self, identity: ActorId, address: NodeAddress, now: float) -> NodeAddress:
        """Note that the placement sends an actor to `address`. Returns the address that holds. After `confirm_s`
        that node is asked whether the activation did begin."""
        if address == self.me or not self.owns(identity) or not self._view.has(address):
            return address
        known = self.partition.find(identity)
        if known is None:
            self.partition.register(identity, address)
            self._placed[identity] = (address, now + self._confirm_s)
        return known or address

    # ---- view changes ----

    def on_view(self, view: View, now: float) -> None:
        """Follow a changed view: freeze slots that were lost, wait for or ask about slots that were gained."""
        before, self._view = self._view, view
        self._census = None
        gone = [address for address in before.addresses if not view.has(address)]
        others = [address for address in view.addresses if address != self.me]
        gained, lost = view.table.moves(before.table, self.me)
        if gone:
            self.partition.keep(view.addresses)
        comers = self._comers(before)
        returned = self._resort()
        for owner, slots in lost.items():
            self._seal_lost(owner, slots, unsure=bool(comers))
        late = self._forget_members(gone)
        self._await(gained, returned, others, now)
        for number in late:
            self._ask(number, self.questions.spread(number, others), others)
        self._greet(comers, before, now)
        for giver, handoff in self._early.ripe(lambda: view.table.owned_by(self.me)):
            self._take(giver, handoff, now, fresh=False)
        self.streams.hurry()

    def _resort(self) -> NDArray[np.bool_]:
        """Sort what is under way by its owner now: births and deaths that may not have arrived,
        and frozen slots. Returns a mask of the slots that are this node's again."""
        returned = mask(np.empty(0, dtype=np.intp))
        for peer, stream in self.streams:
            for identity, claim in stream.ids().items():
                owner = self._view.table.owner(identity)
                if owner != peer:
                    self._tell(identity, owner, claim)
            for number, frozen in list(stream.frozen.items()):
                shares = self._view.table.by_owner(frozen.slots)
                if list(shares) != [peer]:
                    del stream.frozen[number]
                    self._redirect(peer, frozen, shares)
                    returned[shares.get(self.me, [])] = True
        return returned

    def _redirect(self, peer: NodeAddress, frozen: FrozenSlots, shares: dict[NodeAddress | None, Slots]) -> None:
        """Send `frozen` to its owners by the new view, or take it back: the view has turned while it was on its way
        to `peer`."""
        for owner, slots in shares.items():
            inside = mask(slots)
            entries = {identity: home for identity, home in frozen.entries.items() if inside[slot(identity)]}
            if owner == self.me:
                for identity, home in entries.items():
                    self._list(identity, home)
                    self._check(identity, home, listed=True)
            elif owner is not None and self._view.has(peer):
                self._freeze(owner, slots, entries, frozen.digest, frozen.unsure[inside[frozen.unsure]])

    def _comers(self, before: View) -> dict[NodeAddress, None]:
        """Members that come from another view, where they may have activations that this node does not know. A member
        that is just joining and was never heard of has none."""
        return {
            address: None
            for address, member in self._view.addresses.items()
            if address != self.me
            and address not in before.addresses
            and (member.state != "joining" or self._has_met(address))
        }

    def _has_met(self, address: NodeAddress) -> bool:
        return self._met.get(address.node, 0) >= address.incarnation

    def _meet(self, address: NodeAddress) -> None:
        if not self._has_met(address):
            self._met[address.node] = address.incarnation

    def _seal_lost(self, owner: NodeAddress | None, slots: Slots, *, unsure: bool) -> None:
        entries = self.partition.take(slots)
        doubtful = slots if unsure else self.questions.unsure(slots)
        self.questions.slots_lost(slots)
        if owner is not None:
            if self._census is None:
                self._census = Census(self._source.activation_ids())
            entries.update((identity, self.me) for identity in self._census.within(slots))
            self._freeze(owner, slots, entries, self._view.digest, doubtful)

    def _freeze(
        self, to: NodeAddress, slots: Slots, entries: dict[ActorId, NodeAddress], digest: int, unsure: Slots
    ) -> None:
        stream = self.streams.to(to)
        for inside, some in parts(slots, entries, self._limits.batch):
            self._number += 1
            doubtful = unsure[mask(inside)[unsure]]
            stream.frozen[self._number] = FrozenSlots(inside, doubtful, some, digest)

    def _forget_members(self, gone: list[NodeAddress]) -> list[int]:
        """Forget all of members that left the view. Returns the questions that waited for a handoff of theirs."""
        late: list[int] = []
        for address in gone:
            late += self.questions.member_left(address)
            self.streams.forget(address)
        if gone:
            self._early.keep(self._view.has)
            self._tell_new_owners()
        return late

    def _tell_new_owners(self) -> None:
        """Tell the owners of now about activations here that a lost member listed. That member may have died before it
        handed the entries over, and the new owner, if it believed before that the slot was its own, does not
        ask. (A member that returns is told everything afresh.)"""
        for identity, left in self._listers.keep(self._view.has):
            owner = self._view.table.owner(identity)
            if owner not in left:
                self._tell(identity, owner)

    def _await(
        self,
        gained: dict[NodeAddress | None, Slots],
        returned: NDArray[np.bool_],
        others: list[NodeAddress],
        now: float,
    ) -> None:
        """Wait for the handoffs of live givers, and ask all members about other slots. Slots of which this node's own
        handoff had not arrived at the giver (`returned`) are asked about too: it may have nothing to hand over."""
        for giver, slots in gained.items():
            lives = giver is not None and self._view.has(giver)
            asked = slots[returned[slots]] if lives else slots
            if giver is not None and lives:
                self.questions.expect(slots[~returned[slots]], giver, now)
            self._ask(self.questions.ask(asked, others, now, blocks=True), asked, others)

    def _greet(self, comers: dict[NodeAddress, None], before: View, now: float) -> None:
        """Ask members that come from another view for their activations in the slots that this node keeps,
        and tell them anew of those here in theirs."""
        if comers:
            kept = (self._view.table.owned_by(self.me) & before.table.owned_by(self.me)).nonzero()[0]
            self._ask(self.questions.ask(kept, comers, now, blocks=True), kept, comers)
        for address in comers:
            if self._has_met(address):
                self.streams.to(address).afresh = True
        # While nobody owned anything, nothing was told to anybody.
        untold = comers if before.table.owners else self._view.addresses
        for identity in self._source.activation_ids() if untold else ():
            owner = self._view.table.owner(identity)
            if owner in untold:
                self._tell(identity, owner)

    def _ask(self, number: int, slots: Slots, members: Iterable[NodeAddress]) -> None:
        if number:
            for member in members:
                self.streams.to(member).asks[number] = slots

    # ---- messages of peers ----

    def receive(self, peer: NodeAddress, word: Word, size: int, now: float) -> WordAnswer:
        """Take a message of `peer`'s stream, of `size` bytes, and answer it. Raises `Unavailable` if it is not for
        now, and `BadInput`."""
        if not self._view.has(peer):
            raise Unavailable(f"{peer} is not in this node's view")
        mark = (peer.incarnation, word.number)
        if mark <= self._newest.get(peer.node, (Incarnation(0), 0)):
            raise Unavailable("overtaken by a later message")
        self._newest[peer.node] = mark
        self._meet(peer)
        if word.afresh:
            self._start_again(peer, now)
        refused: list[ActorId] = []
        rivals: list[tuple[ActorId, NodeId, Incarnation]] = []
        for identities, claim in ((word.born, False), (word.claimed, True)):
            for identity in identities:
                if not self.owns(identity):
                    refused.append(identity)
                elif (winner := self._register(identity, peer, claim)) != peer:
                    rivals.append((identity, winner.node, winner.incarnation))
        for identity in word.gone:
            self.partition.unregister(identity, peer)
        verdict: Verdict = self._receive_handoff(peer, word.handoff, size, now) if word.handoff is not None else ""
        for number in word.told:
            self.questions.answered(peer, number)
        self._answer(peer, word)
        return WordAnswer(self._view.digest, refused, rivals, verdict)

    def _start_again(self, peer: NodeAddress, now: float) -> None:
        """Begin afresh with `peer`, which had lost this node from its view and with it all that it had to say."""
        self.partition.forget(peer)
        mine = self._view.table.owned_by(self.me).nonzero()[0]
        self.questions.ask(mine, [peer], now, blocks=False)
        for number, slots in self.questions.owed_by(peer).items():
            self._ask(number, slots, [peer])

    def _register(self, identity: ActorId, home: NodeAddress, claim: bool) -> NodeAddress:
        placed = self._placed.pop(identity, None)
        if self._lives(identity):
            if not claim:
                return self.me
            self._source.drop_duplicate(identity, home)
        if claim or placed is not None:  # a live activation beats a mere placement
            known = self.partition.replace(identity, home)
            if known is not None and known != home:
                self._check(identity, known, listed=False)
        return self.partition.register(identity, home)

    def _answer(self, peer: NodeAddress, word: Word) -> None:
        """Answer the doubts and questions of `peer` in this node's own stream to it."""
        for identities, listed in ((word.listed, True), (word.unlisted, False)):
            for identity in identities:
                if self._lives(identity) != listed:
                    self.streams.to(peer).tell(identity, not listed)
                elif listed:
                    self._listers.note((identity,), peer)
        for question, data in word.asks:
            slots, stream = unpack(data), self.streams.to(peer)
            if self._census is None:
                self._census = Census(self._source.activation_ids())
            for identity in self._census.within(slots):
                if self._lives(identity):
                    stream.tell(identity, True)
            stream.told[question] = None

    def hint(self, hint: Hint) -> None:
        if self.owns(hint.id):
            self.missed(hint.id, NodeAddress(hint.node, hint.incarnation))

    # ---- handoffs that arrive ----

    def _receive_handoff(self, giver: NodeAddress, handoff: Handoff, size: int, now: float) -> Verdict:
        if self._early.was_taken(giver, handoff):
            return "done"
        if self._view.table.owned_by(self.me)[unpack(handoff.slots)].all():
            self._take(giver, handoff, now, fresh=True)
            return "done"
        return "held" if self._early.hold(giver, handoff, size, now) else "refused"

    def _take(self, giver: NodeAddress, handoff: Handoff, now: float, *, fresh: bool) -> None:
        """Make the entries of a handoff this node's own. `fresh`: it was sent a moment ago, so that the giver's word
        about its own activations needs no check."""
        self._early.take(giver, handoff)
        slots = unpack(handoff.slots)
        inside = mask(slots)
        awaited = mask(self.questions.handed_over(giver, slots))
        for identity, home in self.partition.within(slots[~awaited[slots]]).items():
            self._check(identity, home, listed=True)
        for node, incarnation, identities in handoff.entries:
            home = NodeAddress(node, incarnation)
            sure = fresh and home == giver
            for identity in identities:
                if inside[slot(identity)] and self._list(identity, home) and not sure:
                    self._check(identity, home, listed=True)
        others = [address for address in self._view.addresses if address != self.me]
        unsure = unpack(handoff.unsure)
        self._ask(self.questions.ask(unsure, others, now, blocks=True), unsure, others)
        if handoff.digest != self._view.digest:
            self._ask(self.questions.ask(slots, others, now, blocks=False), slots, others)

    def _list(self, identity: ActorId, home: NodeAddress) -> bool:
        """List `identity` at `home` on another's word. False if it is not to be listed there; the check then
        tells `home`, if it does have the actor, of its rival."""
        if home == self.me or not self._view.has(home):
            return False
        if self._lives(identity) or self.partition.register(identity, home) != home:
            self._check(identity, home, listed=False)
            return False
        return True

    # ---- the sending side ----

    def next(self, peer: NodeAddress, now: float) -> Word | None:
        """The next message to `peer`, None if there is none to be sent now."""
        stream = self.streams.find(peer)
        due = stream.due() if stream is not None else None
        if stream is None or due is None or due > now:
            return None
        self._number += 1
        self._meet(peer)
        word = stream.compose(self._number, self._view.digest, self._lives, self.me, now)
        self._listers.note((*word.born, *word.claimed), peer)
        for node, incarnation, identities in word.handoff.entries if word.handoff is not None else ():
            if (node, incarnation) == self.me:
                self._listers.note(identities, peer)
        return word

    def answered(self, peer: NodeAddress, number: int, answer: WordAnswer, now: float) -> None:
        """Take the answer of `peer` to message `number`."""
        stream = self.streams.find(peer)
        if stream is None or stream.flight is None or stream.flight.number != number:
            return
        word = stream.delivered(answer, now, self._backoff)
        claimed = dict.fromkeys(word.claimed)
        for identity in answer.refused:
            if self._lives(identity):
                owner = self._view.table.owner(identity)
                if owner == peer:
                    stream.postpone(identity, identity in claimed, now, self._backoff)
                else:
                    self._tell(identity, owner, identity in claimed)
        for identity, node, incarnation in answer.rivals:
            winner = NodeAddress(node, incarnation)
            if not self._view.has(winner):
                stream.postpone(identity, False, now, self._backoff)
                continue
            claims = self._source.drop_duplicate(identity, winner)
            if self._lives(identity):
                stream.postpone(identity, claims, now, self._backoff)
        self.streams.drop_empty(peer)

    def failed(self, peer: NodeAddress, number: int, now: float) -> None:
        """Note that message `number` may not have arrived."""
        stream = self.streams.find(peer)
        if stream is not None and stream.flight is not None and stream.flight.number == number:
            stream.failed(now, self._backoff)

    # ---- time ----

    def tick(self, now: float) -> None:
        """Do what is due by `now`: late handoffs, early ones that expire, placements to confirm, pauses that end."""
        others = [address for address in self._view.addresses if address != self.me]
        for number in self.questions.overdue(now):
            self._ask(number, self.questions.spread(number, others), others)
        self._early.expire(now)
        for identity, (address, due) in list(self._placed.items()):
            if due > now:
                break
            del self._placed[identity]
            if self.partition.find(identity) == address:
                self._check(identity, address, listed=True)
        self.streams.wake(now)

    def due(self) -> float | None:
        """The time at which `tick` has something to do next, apart from the streams."""
        placed = next((at for _, at in self._placed.values()), None)
        times = [at for at in (self._early.due(), self.questions.due(), placed) if at is not None]
        return min(times, default=None)

    # ---- going over to another process of this run ----

    def bequeath(self, now: float) -> bytes:
        """All that this node knows and has to say; of what was copied ahead what has changed since."""
        last, questions = self.questions.bequeath(now)
        early, taken = self._early.bequeath(now)
        return bequest.encode(
            DirectoryBequest(
                self.me,
                self._view.digest,
                self._number,
                [(NodeAddress(node, run), number) for node, (run, number) in self._newest.items()],
                [NodeAddress(*met) for met in self._met.items()],
                self.streams.bequeath(now),
                last,
                questions,
                early,
                taken,
                [(identity, home, at - now) for identity, (home, at) in self._placed.items()],
                *self.going_over.left(),
            )
        )

    def inherit(self, data: bytes, now: float) -> None:
        """Go on from the memory of another process, under the same address and view. Raises `BadInput`."""
        it = bequest.decode(data)
        if it.me != self.me or it.digest != self._view.digest:
            raise BadInput("the directory of another run, or of another view")
        self._number = it.number
        self._newest = {node: (run, number) for (node, run), number in it.newest}
        self._met = dict(it.met)
        self.streams.inherit(it.streams, now)
        self.questions.inherit(it.last_question, it.questions, now)
        self._early.inherit(it.early, it.taken, now)
        self._placed = {identity: (home, now + left_s) for identity, home, left_s in it.placed}
        self.going_over.take(it.entries)
        self.going_over.take(it.listers)

    @property
    def early(self) -> int:
        """Number of handoffs that came early."""
        return len(self._early)

    @property
    def quiet(self) -> bool:
        """True if nothing is to be said or awaited."""
        return not (len(self.streams) or len(self._early) or self.questions.open)

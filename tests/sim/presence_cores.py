"""`presence_cores(seed) -> violations`: the presence of some nodes without all the rest, so that thousands of their
words are delayed, lost, late and on their way between different views within a second of computing time.

A made-up gossip gives each node a view of its own: nodes come up alone, learn of each other one by one, and lose each
other for a moment (A, B, A). A made-up store says when a run that has crashed is over, sometimes late. Players are
shown by one activation at a time, each with a higher epoch, which may move.

Every time that an entry looks different it is compared: what it shows was true a moment ago, and is never older than
what it has shown before. When all is whole again each entry is known, and right.
"""

import heapq
import random
from collections.abc import Callable
from typing import Final

from server.actors.pictures import Pictures, Showing
from server.cluster.view import Member
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.presence.core import PresenceCore
from server.presence.messages import PresenceWord, decode, decode_reply, encode
from server.presence.outgoing import PresenceLimits
from server.presence.ports import WatchedPlayer
from tests.sim.not_known import NotKnown

LIMITS: Final = PresenceLimits(batch=1)
"""Words of one item, so that nothing is told at once."""
GENTLE_S: Final = 2.0
"""Longest time for which anything is not right where nodes only come: views differ for 0.8 s, a word that is refused
comes again within 0.41 s, and 16 players wait for each other twice, at 0.03 s a word."""
PROMISE_S: Final = 7.0
"""The 4 s of docs/guarantees.md, and twice the slowest word, which is slower here than words of a living link are. Were
all waits as long as they can be, one after the other, two links that are behind would add a second each."""
LENGTH_S: Final = 20.0
CALM_S: Final = 8.0
KNOWN_S: Final = 3.5
"""Time from the end of all trouble until every entry is known."""
PLAYERS: Final = [f"p{number}" for number in range(16)]
OFFLINE: Final = Pictures(b"off", b"off", b"off")


class Activation:
    """The one that a player has now: where, its epoch, and how it looks. It is told of anew only once somebody has
    looked, as in a node."""

    def __init__(self, node: "CoreNode", epoch: int, n: int) -> None:
        self.node, self.epoch, self.n = node, epoch, n
        self.pictures: Pictures | None = None
        self.arrived = True
        self.looks_new = False

    @property
    def seen(self) -> Showing:
        return Showing(self.n, self.pictures, self.n)

    def showing(self) -> Showing:
        self.looks_new = False
        return self.seen


class CoreNode:
    """A run of a node: a core, and the members that it believes in."""

    def __init__(self, name: str, run: int) -> None:
        self.address = NodeAddress(NodeId(name), Incarnation(run))
        self.members: set[NodeAddress] = {self.address}
        self.rng = random.Random(f"{name}{run}")
        self.core = PresenceCore("p", lambda _row: OFFLINE, False, self._backoff, LIMITS)
        self.core.start(self.address)
        self.entries: dict[str, WatchedPlayer] = {}
        self.looked_at = 0.0

    def _backoff(self, attempt: int) -> float:
        return 0.01 + self.rng.uniform(0, min(0.4, 0.025 * 2.0**attempt))


class Cores:
    """A run of the scenario, on a clock of its own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"{seed}/cores")
        self.now, self.order = 0.0, 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes: dict[str, CoreNode] = {}
        self.over: set[NodeAddress] = set()
        self.runs: list[NodeAddress] = []
        self.cut: set[tuple[str, str]] = set()
        self.players: dict[str, Activation] = {}
        self.epochs = self.number = self.words = 0
        self.true_at: dict[tuple[str, Pictures], float] = {}
        self.highest: dict[WatchedPlayer, int] = {}
        self.wrong: dict[str, None] = {}
        self.calm = False
        self.not_known = NotKnown(KNOWN_S)
        self.gentle = seed % 3 == 0
        """No word is lost or slow, and no node crashes or is forgotten."""
        self.promise_s = GENTLE_S if self.gentle else PROMISE_S

    # ---- time ----

    def at(self, delay_s: float, event: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (self.now + delay_s, self.order, event))

    def until(self, time: float) -> None:
        while self.events and self.events[0][0] <= time:
            self.now, _, event = heapq.heappop(self.events)
            event()
            self.follow_up()
        self.now = time

    def run(self) -> list[str]:
        for number, name in enumerate(("n1", "n2", "n3")):
            self.at(5.0 * number * self.gentle, lambda name=name: self.start(name))  # type: ignore[misc]
        self.tick()
        self.at(0.5, self.live)
        self.at(2.0, self.trouble)
        self.until(LENGTH_S)
        self.calm = True
        self.not_known.calm(self.now)
        self.cut.clear()
        living = [node.address for node in self.nodes.values()]
        self.over.update(run for run in self.runs if run not in living)
        left = self.rng.choice(("", "", "n1", "n2", "n3"))
        for name in ("n1", "n2", "n3"):
            if name != left:
                self.start(name)
            elif name in self.nodes and not self.gentle:
                self.crash(name)
        self.gossip()
        self.until(self.now + CALM_S)
        self.look()
        for node in self.nodes.values():
            for entry in node.entries.values():
                if entry.pictures != self.truth(entry.player):
                    line = f"{node.address} has {entry.player} {entry.state} {entry.pictures}"
                    self.wrong[f"{line} in the end, not {self.truth(entry.player)}"] = None
        return list(self.wrong)

    def tick(self) -> None:
        for node in list(self.nodes.values()):
            node.core.tick(self.now)
        if self.calm:
            self.look()
        self.at(0.1, self.tick)

    # ---- nodes, views and the store ----

    def start(self, name: str) -> None:
        """Come up alone, with what the store knows of runs that live."""
        if name in self.nodes:
            return
        node = self.nodes[name] = CoreNode(name, len(self.runs) + 1)
        living = [run for run in self.runs if run not in self.over]
        self.runs.append(node.address)
        for run in living:
            if run.node == name:
                self.over.add(run)
        self.at(self.rng.choice((0.0, 0.05, 0.4)), lambda: node.core.begin(living, self.now))
        self.see(node)
        self.at(0.2, lambda: self.ask_store(node))
        self.gossip()

    def ask_store(self, node: CoreNode) -> None:
        if self.lives(node):
            node.core.are_over([run for run in node.core.missing if run in self.over], self.now)
            self.at(0.25, lambda: self.ask_store(node))

    def gossip(self) -> None:
        """Let each node hear of who is there, and who is not, sooner or later."""
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other.address not in node.members:
                    self.at(self.rng.uniform(0.01, 0.8), lambda node=node, other=other: self.hears(node, other))  # type: ignore[misc]
            for member in node.members:
                if self.nodes.get(member.node) is None or self.nodes[member.node].address != member:
                    self.at(self.rng.uniform(0.9, 1.6), lambda node=node, member=member: self.loses(node, member))  # type: ignore[misc]

    def hears(self, node: CoreNode, other: CoreNode) -> None:
        if self.lives(node) and self.lives(other) and other.address not in node.members:
            node.members = {it for it in node.members if it.node != other.address.node} | {other.address}
            self.see(node)

    def loses(self, node: CoreNode, member: NodeAddress) -> None:
        if self.lives(node) and member in node.members:
            node.members = node.members - {member}
            self.see(node)

    def see(self, node: CoreNode) -> None:
        members = tuple(Member(it.node, it.incarnation, 4, "up", "", "", "") for it in sorted(node.members))
        node.core.on_view(node.core.view.follow(members), self.now)

    def lives(self, node: CoreNode) -> bool:
        return self.nodes.get(node.address.node) is node

    def crash(self, name: str) -> None:
        node = self.nodes.pop(name)
        for player, activation in list(self.players.items()):
            if activation.node is node:
                del self.players[player]
        over_s = 2.0 if self.calm else self.rng.choice((1.8, 2.2, 12.0))
        self.at(over_s, lambda: self.over.add(node.address))
        self.gossip()

    # ---- words ----

    def follow_up(self) -> None:
        """Send what is to be sent, and look at what has changed."""
        for node in list(self.nodes.values()):
            node.core.flush(self.now)
            awake, node.core.awake = node.core.awake, {}
            for peer in awake:
                self.say(node, peer)
            if node.core.watching.changed:
                node.core.watching.changed.clear()
                self.look()

    def say(self, node: CoreNode, peer: NodeAddress) -> None:
        if not self.lives(node):
            return
        due = node.core.due(peer)
        if due is None:
            return
        if due > self.now:
            if due - self.now < 0.2:
                self.at(due - self.now, lambda: self.say(node, peer))
            return
        word = node.core.next(peer, self.now)
        if word is None:
            return
        self.words += 1
        self.at(1.0, lambda: self.timed_out(node, peer, word))
        if self.passes(node.address, peer):
            payload = encode(word)
            self.at(self.delay(), lambda: self.deliver(node, peer, word, payload))

    def delay(self) -> float:
        return 0.01 if self.calm or self.gentle else self.rng.choice((0.001, 0.01, 0.05, 0.05, 0.3, 1.5))

    def passes(self, source: NodeAddress, target: NodeAddress) -> bool:
        lost = not (self.calm or self.gentle) and self.rng.random() < 0.05
        return (source.node, target.node) not in self.cut and not lost

    def timed_out(self, node: CoreNode, peer: NodeAddress, word: PresenceWord) -> None:
        node.core.failed(peer, word, self.now)
        self.say(node, peer)

    def deliver(self, node: CoreNode, peer: NodeAddress, word: PresenceWord, payload: bytes) -> None:
        target = self.nodes.get(peer.node)
        if target is None or target.address != peer:
            return
        message = decode(payload)
        assert isinstance(message, PresenceWord)
        answer = encode(target.core.receive(node.address, message, self.now))
        if self.passes(peer, node.address):
            self.at(self.delay(), lambda: self.replied(node, peer, word, answer))

    def replied(self, node: CoreNode, peer: NodeAddress, word: PresenceWord, answer: bytes) -> None:
        if self.lives(node):
            node.core.replied(peer, word, decode_reply(answer), self.now)

    # ---- players and watchers ----

    def live(self) -> None:
        rng = self.rng
        player = rng.choice(PLAYERS)
        self.note()
        activation = self.players.get(player)
        what = rng.choice(("show", "show", "show", "hide", "end", "move", "move", "watch", "watch", "release"))
        if not self.nodes:
            pass
        elif what in ("watch", "release"):
            self.watch(rng.choice(list(self.nodes.values())), player, what == "watch")
        elif activation is not None and not activation.arrived:
            pass
        elif activation is None:
            self.epochs += 1
            node = rng.choice([*self.nodes.values()])
            owner = node.core.owner(player)
            if rng.random() < 0.5 and owner is not None and self.nodes.get(owner.node) is not None:
                node = self.nodes[owner.node]
            activation = self.players[player] = Activation(node, self.epochs, 0)
            self.show(player, activation)
        elif what == "show":
            self.show(player, activation)
        elif what == "hide" and activation.pictures is not None:
            activation.pictures = None
            activation.n += 1
            activation.looks_new = False
            activation.node.core.withdraw(player, (activation.epoch, activation.n))
        elif what == "end":
            del self.players[player]
            activation.node.core.hide(player, activation.epoch, False, self.now)
        elif what == "move":
            self.move(player, activation)
        self.note()
        if not self.calm:
            self.at(rng.choice((0.0, 0.01, 0.05, 0.3)), self.live)

    def show(self, player: str, activation: Activation) -> None:
        self.number += 1
        word = f"{self.number}".encode()
        activation.pictures = Pictures(word, word, word)
        activation.n += 1
        self.tell(player, activation)

    def tell(self, player: str, activation: Activation) -> None:
        if not activation.looks_new:
            activation.looks_new = True
            activation.node.core.show(player, activation)

    def move(self, player: str, activation: Activation) -> None:
        """It ends here as moved, and is there a little later; nobody else shows it meanwhile."""
        target = self.rng.choice(list(self.nodes.values()))
        if target is activation.node:
            return
        activation.node.core.hide(player, activation.epoch, True, self.now)
        self.epochs += 1
        moved = self.players[player] = Activation(target, self.epochs, activation.n)
        moved.pictures, moved.arrived = activation.pictures, False

        def arrive() -> None:
            moved.arrived = True
            if self.players.get(player) is moved and self.lives(target):
                self.tell(player, moved)

        arrive() if self.rng.random() < 0.5 else self.at(self.rng.choice((0.01, 0.1)), arrive)

    def watch(self, node: CoreNode, player: str, watches: bool) -> None:
        entry = node.entries.pop(player, None)
        if entry is None and watches:
            [node.entries[player]] = node.core.watch([player], self.now)
        elif entry is not None and not watches:
            node.core.release(entry)
        elif entry is not None:
            node.entries[player] = entry

    # ---- trouble ----

    def trouble(self) -> None:
        rng, names = self.rng, sorted(self.nodes)
        if self.calm or self.gentle:
            return
        self.at(rng.uniform(0.2, 1.5), self.trouble)
        if len(names) < 2:
            return
        source, target = rng.sample(names, 2)
        what = rng.choice(("cut", "cut", "forget", "forget", "crash", "crash"))
        if what == "cut":
            self.cut.add((source, target))
            self.at(rng.choice((0.3, 2.0, 10.0)), lambda: self.cut.discard((source, target)))
        elif what == "forget":
            self.loses(self.nodes[source], self.nodes[target].address)
            self.at(rng.choice((0.01, 0.05, 0.5, 2.0)), self.gossip)
        elif len(names) == 3 and len(self.over) == len(self.runs) - 3:
            self.crash(source)
            self.at(rng.choice((0.1, 1.0, 3.0)), lambda: self.calm or self.start(source))

    # ---- what is right ----

    def truth(self, player: str) -> Pictures:
        activation = self.players.get(player)
        return OFFLINE if activation is None or activation.pictures is None else activation.pictures

    def note(self) -> None:
        for player in [*PLAYERS, *(player for player in self.players if player not in PLAYERS)]:
            self.true_at[player, self.truth(player)] = self.now

    def look(self) -> None:
        """Compare every entry with what was true lately, and with what it has shown before."""
        self.note()
        unknown = []
        for node in self.nodes.values():
            for entry in node.entries.values():
                pictures = entry.pictures
                if pictures is None:
                    unknown.append(f"{entry.player} at {node.address}")
                    continue
                where = f"{self.now:.2f} {node.address} shows {entry.player} as {pictures.everybody.decode()}"
                age_s = self.now - self.true_at.get((entry.player, pictures), -1e3)
                if age_s > self.promise_s:
                    self.wrong[f"{where}, which is not true since {age_s:.1f} s"] = None
                if entry.source is not None and not entry.source.trusted and not node.core.watching.holds(entry):
                    self.wrong[f"{where}, and others of the same owner are unknown"] = None
                if pictures != OFFLINE:
                    number = int(pictures.everybody)
                    if number < self.highest.get(entry, 0):
                        self.wrong[f"{where}, after {self.highest[entry]}"] = None
                    self.highest[entry] = number
        self.wrong.update(dict.fromkeys(self.not_known.look(unknown, self.now)))


def presence_cores(seed: int) -> list[str]:
    """See the module's head."""
    return Cores(seed).run()


def presence_views(seed: int) -> list[str]:
    """Short plays on three nodes: a watching node asks an owner that does not know yet that it is one; a home's words
    do not reach the owner any more; a player who has moved ends, or the new home dies, while the node before still
    shows the player; a player ends while the slot is another node's, to whose former owner it comes back; a home has
    much to tell to a new owner of slots; nobody can be the new owner yet; a home, or an owner, falls behind; the answer
    in a reply comes after a newer word, once and always."""
    plays = (
        _asked_too_early,
        _not_heard,
        _ended_before_a_new_owner,
        _new_home_dies,
        _slot_comes_back,
        _slots_of_many_move,
        _owner_vanishes,
        _home_is_behind,
        _owner_is_behind,
        _reply_is_overtaken,
        _replies_are_slower_than_words,
    )
    return [line for play in plays for line in play(seed)]


def _three(seed: int) -> tuple[Cores, str]:
    """Three nodes that agree, and a player whose slot is n3's, or n2's where n3 is not seen."""
    cores = Cores(seed)
    cores.gentle, cores.promise_s = True, 4.2
    for name in ("n1", "n2", "n3"):
        cores.start(name)
    cores.tick()
    cores.until(3.0)
    node = cores.nodes["n1"]
    without = node.core.view.follow(tuple(it for it in node.core.view.members.values() if it.node != "n3"))
    for number in range(1_000):
        player = f"x{seed}-{number}"
        identity = ActorId(f"p/{player}")
        owners = node.core.view.table.owner(identity), without.table.owner(identity)
        if [owner and owner.node for owner in owners] == ["n3", "n2"]:
            return cores, player
    raise AssertionError("no such player")


def _shown(cores: Cores, player: str, home: str) -> None:
    cores.players[player] = Activation(cores.nodes[home], 1, 0)
    cores.show(player, cores.players[player])
    cores.until(cores.now + 0.5)
    cores.watch(cores.nodes["n1"], player, True)
    cores.until(cores.now + 1.0)


def _asked_too_early(seed: int) -> list[str]:
    cores, player = _three(seed)
    _shown(cores, player, "n3")
    cores.loses(cores.nodes["n1"], cores.nodes["n3"].address)
    cores.until(cores.now + 1.0)
    return list(cores.wrong)


def _not_heard(seed: int) -> list[str]:
    cores, player = _three(seed)
    _shown(cores, player, "n2")
    cores.note()
    cores.cut.add(("n2", "n3"))
    cores.players[player].pictures = None
    cores.nodes["n2"].core.withdraw(player, (1, 9))
    cores.until(cores.now + 6.0)
    cores.look()
    return list(cores.wrong)


def _moved(cores: Cores, player: str) -> None:
    """A player who is watched at n1 has moved from there to n2, and looks newer since."""
    _shown(cores, player, "n1")
    cores.nodes["n1"].core.hide(player, 1, True, cores.now)
    cores.players[player] = Activation(cores.nodes["n2"], 2, 1)
    cores.show(player, cores.players[player])
    cores.note()
    cores.until(cores.now + 0.1)


def _two(seed: int) -> tuple[Cores, str]:
    """Two nodes that agree, and a player whose slot is n2's, and will be n3's."""
    _, player = _three(seed)
    cores = Cores(seed)
    cores.gentle = True
    cores.start("n1")
    cores.start("n2")
    cores.tick()
    cores.until(3.0)
    return cores, player


def _ended_before_a_new_owner(seed: int) -> list[str]:
    cores, player = _two(seed)
    _moved(cores, player)
    cores.players[player].pictures = None
    cores.nodes["n2"].core.hide(player, 2, False, cores.now)
    cores.start("n3")
    cores.until(cores.now + 2.0)
    return list(cores.wrong)


def _new_home_dies(seed: int) -> list[str]:
    cores, player = _three(seed)
    _moved(cores, player)
    cores.players[player].pictures = None
    _goes(cores, "n2")
    cores.until(cores.now + 2.0)
    return list(cores.wrong)


def _goes(cores: Cores, name: str, over: bool = True) -> None:
    """Let a node vanish, which all see at once; the store too if it is `over`."""
    node = cores.nodes.pop(name)
    if over:
        cores.over.add(node.address)
    for other in cores.nodes.values():
        cores.loses(other, node.address)
        if over:
            other.core.are_over([node.address], cores.now)


def _slot_comes_back(seed: int) -> list[str]:
    """The former owner has a record still, if it was not told that it hears no more: by the time at which the slot
    comes back nobody remembers the end."""
    cores, player = _two(seed)
    _shown(cores, player, "n1")
    cores.start("n3")
    cores.until(cores.now + 2.0)
    cores.players[player].pictures = None
    cores.nodes["n1"].core.hide(player, 1, False, cores.now)
    cores.until(cores.now + 2.1 * LIMITS.ended_s)
    _goes(cores, "n3")
    cores.until(cores.now + 2.0)
    cores.look()
    return list(cores.wrong)


def _slots_of_many_move(seed: int) -> list[str]:
    """The new owner has been there before, and has to hear of many."""
    cores, player = _three(seed)
    crowd = _crowd(cores, player, "n1")
    cores.until(cores.now + 1.0)
    for name in crowd:
        cores.watch(cores.nodes["n2"], name, True)
    cores.until(cores.now + 2.0)
    _goes(cores, "n3")
    cores.until(cores.now + 2.0)
    return list(cores.wrong)


def _owner_vanishes(seed: int) -> list[str]:
    """The store does not say that the owner is over, and the player looks different by now."""
    cores, player = _three(seed)
    _shown(cores, player, "n2")
    cores.note()
    _goes(cores, "n3", False)
    cores.show(player, cores.players[player])
    cores.until(cores.now + cores.promise_s + 0.3)
    cores.look()
    return list(cores.wrong)


def _crowd(cores: Cores, player: str, home: str) -> list[str]:
    """Players of the same slots' owner, who are shown at `home`."""
    core = cores.nodes["n1"].core
    names = (f"{player}-{number}" for number in range(1_000))
    crowd = [name for name in names if core.owner(name) == core.owner(player)][:20]
    for name in crowd:
        cores.players[name] = Activation(cores.nodes[home], 1, 0)
        cores.show(name, cores.players[name])
    return crowd


def _home_is_behind(seed: int) -> list[str]:
    """The player has moved, and the new home has to tell of many others first when it is heard again."""
    cores, player = _three(seed)
    _shown(cores, player, "n1")
    cores.cut.add(("n2", "n3"))
    cores.nodes["n1"].core.hide(player, 1, True, cores.now)
    _crowd(cores, player, "n2")
    moved = cores.players[player] = Activation(cores.nodes["n2"], 2, 1)
    moved.pictures = Pictures(b"1", b"1", b"1")
    cores.tell(player, moved)
    cores.until(cores.now + LIMITS.linger_s + 0.5)
    cores.cut.clear()
    cores.until(cores.now + 2.0)
    return list(cores.wrong)


def _owner_is_behind(seed: int) -> list[str]:
    """The player looks different, and the owner has to answer for many others first on a link that is slow now."""
    cores, player = _three(seed)
    _shown(cores, player, "n3")
    crowd = _crowd(cores, player, "n3")
    for name in crowd:
        cores.watch(cores.nodes["n1"], name, True)
    cores.until(cores.now + 2.0)
    cores.note()
    cores.delay = lambda: 0.3  # type: ignore[method-assign]
    for name in (*crowd, player):
        cores.show(name, cores.players[name])
    cores.until(cores.now + 8.0)
    return list(cores.wrong)


def _slow_replies(seed: int, slow_s: float) -> tuple[Cores, str]:
    """A player who is shown at the owner, n3, whose replies to n1 take so long: n1 begins to watch."""
    cores, player = _three(seed)
    cores.players[player] = Activation(cores.nodes["n3"], 1, 0)
    cores.show(player, cores.players[player])
    cores.note()
    cores.until(cores.now + 0.5)
    replied = cores.replied

    def late(node: CoreNode, peer: NodeAddress, word: PresenceWord, answer: bytes) -> None:
        slow = (node.address.node, peer.node) == ("n1", "n3")
        cores.at(slow_s if slow else 0.0, lambda: replied(node, peer, word, answer))

    cores.replied = late  # type: ignore[method-assign]
    cores.watch(cores.nodes["n1"], player, True)
    return cores, player


def _reply_is_overtaken(seed: int) -> list[str]:
    cores, player = _slow_replies(seed, 0.3)
    cores.until(cores.now + 0.1)
    cores.show(player, cores.players[player])
    cores.until(cores.now + 1.0)
    cores.look()
    return list(cores.wrong)


def _replies_are_slower_than_words(seed: int) -> list[str]:
    cores, player = _slow_replies(seed, 2 * LIMITS.ping_s)
    cores.until(cores.now + 4 * LIMITS.ping_s + 1.0)
    entry = cores.nodes["n1"].entries[player]
    unknown = [f"{player} is {entry.state} at n1"] if entry.pictures != cores.truth(player) else []
    return [*cores.wrong, *unknown]

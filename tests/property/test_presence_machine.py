"""Watching players against a model: what a client has in the end equals what it may see, and it never saw more.

Two nodes, each with sessions' tables and an engine of its own that the machine shows players by. Clients are simple: a
picture, the names they want, a cursor. Frames that were sent and not read yet are lost when a connection breaks.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from server.actors.pictures import Pictures, Relations
from server.actors.presence import PresenceKind
from server.errors import Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.sessions.presence import PresenceWatches
from server.sessions.presence_requests import Faces
from server.sessions.session import Session
from server.sessions.sights import Sights
from server.sessions.slices import Slices
from server.settings import PresenceSettings
from server.wire.messages import PresenceUnwatch, PresenceWatch, SeenPlayer
from tests.support.presences import MemoryPresence
from tests.support.session_parts import Parts
from tests.support.watchers import Circle

PLAYERS = [f"p{number}" for number in range(5)]
WATCHERS = PLAYERS[:3]
NODES = (0, 1)
players = st.sampled_from(PLAYERS)
watchers = st.sampled_from(WATCHERS)
names = st.lists(players, max_size=4, unique=True)


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


GONE = Pictures(packed("gone"), packed("f gone"), packed("o gone"))
FACE = PresenceKind(
    lambda row: GONE,
    packed("?"),
    packed("gone"),
    relations=Circle,
    stored_relations=("lists", lambda row: row["relations"] if row is not None else Relations(0, [], [])),
)


class Lists:
    """The actors of relations, and the store that has their lists. While `slow`, questions wait; what they are told
    then is what is so then, by the actors, or what was so when they asked, by the store."""

    def __init__(self) -> None:
        self.lists = {player: [Relations(1, [], [])] for player in PLAYERS}
        self.slow = self.unreadable = False
        self.reads: list[asyncio.Future[None]] = []
        self.questions: list[tuple[str, asyncio.Future[Relations]]] = []

    def ask_now(self, identity: str, name: str, args: tuple[Any, ...]) -> Any:
        player = identity.partition("/")[2]
        if not self.slow:
            return self.lists[player][-1]
        future: asyncio.Future[Relations] = asyncio.get_running_loop().create_future()
        self.questions.append((player, future))
        return future

    async def run(self, name: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = [{"key": player, "relations": self.lists[player][-1]} for player in params["keys"]]
        if self.slow:
            self.reads.append(asyncio.get_running_loop().create_future())
            await self.reads[-1]
        if self.unreadable:
            raise Unavailable("planted")
        return rows

    def answer(self) -> None:
        reads, self.reads = self.reads, []
        for read in reads:
            if not read.done():
                read.set_result(None)
        questions, self.questions = self.questions, []
        for player, future in questions:
            if not future.done():
                future.set_result(self.lists[player][-1])


class Wire:
    """A connection whose frames wait until the client reads. `sent` hears of each when it is written."""

    remote, country, format, buffered_bytes = "", "", "msgpack", 0

    def __init__(self, sent: Any) -> None:
        self.frames: list[Any] = []
        self._sent = sent

    def send(self, data: bytes) -> None:
        message = msgspec.msgpack.decode(data)
        self._sent(message)
        self.frames.append(message)

    def set_receiver(self, receiver: Any) -> None: ...

    def close(self, code: int, reason: str = "") -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def traffic(self) -> tuple[int, int]:
        return 0, 0


class Person:
    """A client, its session, and what it wants to watch."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.picture: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.by_name: set[str] = set()
        self.friends = False
        self.friend_list: list[str] = []
        self.cursor: str | None = None
        self.session: Session
        self.wire: Wire
        self.node = 0
        self.asked: list[tuple[Session, Wire, asyncio.Future[Any]]] = []

    def read(self) -> None:
        frames, self.wire.frames = self.wire.frames, []
        for message in frames:
            if message[0] == "presence.friends":
                self.friend_list = message[1]
            if message[0] != "presence.changes":
                continue
            _, cursor, items = message
            self.cursor = cursor or self.cursor
            for player, version, value in items:
                if version:
                    self.picture[player], self.versions[player] = value, version
                else:
                    self.picture.pop(player, None)
                    self.versions.pop(player, None)


class PresenceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.parts = Parts()
        self.lists = Lists()
        self.engines = [MemoryPresence(GONE) for _ in NODES]
        self.nodes: list[PresenceWatches] = []
        self.published = dict.fromkeys(PLAYERS, 0)
        self.heard = [dict.fromkeys(PLAYERS, 0) for _ in NODES]
        """Numbers of the newest lists that each node has heard of."""
        self.count = 0
        self.people = {subject: Person(subject) for subject in WATCHERS}

    def run(self, steps: int = 30) -> None:
        async def some() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())

    def within(self, call: Any) -> Any:
        """Call within the loop."""

        async def inside() -> Any:
            return call()

        return self.loop.run_until_complete(inside())

    @initialize()
    def begin(self) -> None:
        for node in NODES:
            me = NodeAddress(NodeId(f"n{node}"), Incarnation(1))
            slices = Slices(self.parts.ticks.now, units=3)
            sights = Sights(FACE, self.lists, self.lists, self.parts.supervisor, slices, "status")
            self.nodes.append(
                PresenceWatches(
                    Faces(self.engines[node], FACE),
                    self.parts.supervisor,
                    self.parts.metrics,
                    self.parts.ticks,
                    me,
                    PresenceSettings(),
                    60,
                    slices,
                    sights,
                )
            )
        for person in self.people.values():
            self.connect(person, 0)

    # ---- sessions and their connections ----

    def connect(self, person: Person, node: int) -> None:
        person.node = node
        person.session = self.parts.session(subject=person.subject)
        person.session.bucket.burst = 10**9
        person.session.bucket.tokens = 1e9
        self.plug(person)

    def plug(self, person: Person) -> None:
        heard = self.heard[person.node]
        person.wire = Wire(lambda message: self.may_be_sent(person, message, heard))
        person.session.begin(person.wire, b"\x90")  # type: ignore[arg-type]
        person.wire.frames.clear()

    def may_be_sent(self, person: Person, message: Any, heard: dict[str, int]) -> None:
        """Nothing is sent that the client may not see, by the lists that its node may have heard of."""
        if not message or message[0] != "presence.changes":
            return
        lists = [each for each in self.lists.lists[person.subject] if each.number >= heard[person.subject]]
        for player, version, value in message[2]:
            allowed = {self.level(person.subject, player, each) for each in lists}
            if version == 0:
                continue
            if value == "?":
                assert allowed != {"gone"}, (person.subject, player, value, lists)
            elif value == "gone":
                assert allowed & {"gone", "e"}, (person.subject, player, value, lists)
            else:
                assert value[0] in allowed, (person.subject, player, value, lists)

    def level(self, subject: str, player: str, relations: Relations) -> str:
        if subject == player:
            return "o"
        if player in relations.hidden:
            return "gone"
        return "f" if player in relations.friends else "e"

    # ---- the world ----

    @rule(player=players)
    def change(self, player: str) -> None:
        self.count += 1
        pictures = Pictures(packed(f"e{self.count // 2}"), packed(f"f{self.count // 3}"), packed(f"o{self.count}"))
        self.show(player, pictures)

    @rule(player=players)
    def go_offline(self, player: str) -> None:
        self.show(player, GONE)

    def show(self, player: str, pictures: Pictures) -> None:
        for engine, heard in zip(self.engines, self.heard, strict=True):

            def tell(engine: MemoryPresence = engine, heard: dict[str, int] = heard) -> None:
                heard[player] = self.published[player]  # what the loop had to do before that is over now
                engine.show(player, pictures, self.published[player])

            self.within(tell)

    @rule(player=players, lost=st.booleans(), node=st.sampled_from(NODES))
    def lose(self, player: str, lost: bool, node: int) -> None:
        engine = self.engines[node]
        self.within(lambda: engine.lose(player) if lost else engine.found(player))

    @rule(subject=watchers, friends=names, hidden=names, publish=st.booleans())
    def relate(self, subject: str, friends: list[str], hidden: list[str], publish: bool) -> None:
        history = self.lists.lists[subject]
        friends = [each for each in friends if each not in hidden and each != subject]
        hidden = [each for each in hidden if each != subject]
        history.append(Relations(history[-1].number + 1, friends, hidden))
        if publish:
            self.publish(subject)

    @rule(subject=watchers)
    def publish(self, subject: str) -> None:
        """The player's own actor hears of the newest list, and its watchers' nodes do."""
        self.published[subject] = self.lists.lists[subject][-1].number
        shown = self.engines[0].shown.get(subject, (GONE, 0))[0]
        self.show(subject, shown)

    @rule(slow=st.booleans())
    def pace(self, slow: bool) -> None:
        self.lists.slow = slow
        if not slow:
            self.within(self.lists.answer)

    @rule(answers=st.booleans(), node=st.sampled_from(NODES))
    def first_answers(self, answers: bool, node: int) -> None:
        self.engines[node].answers = answers
        if answers:
            self.within(self.engines[node].answer)

    @rule(unreadable=st.booleans())
    def lose_the_store(self, unreadable: bool) -> None:
        self.lists.unreadable = unreadable

    @rule()
    def answer_questions(self) -> None:
        self.within(self.lists.answer)

    @rule()
    def tick(self) -> None:
        for node in self.nodes:
            self.within(node.tick)

    @rule(steps=st.integers(1, 6))
    def let_run(self, steps: int) -> None:
        self.run(steps)

    # ---- what clients do ----

    @rule(subject=watchers, wanted=names, friends=st.booleans())
    def watch(self, subject: str, wanted: list[str], friends: bool) -> None:
        person = self.people[subject]
        if person.session.connection is None:
            return
        person.by_name.update(wanted)
        person.friends = person.friends or friends
        self.ask(person, wanted, friends, [])

    def ask(self, person: Person, wanted: list[str], friends: bool, seen: list[SeenPlayer]) -> None:
        node, session = self.nodes[person.node], person.session
        answer = self.within(lambda: node.watch(session, PresenceWatch(1, wanted, friends, seen)))
        person.asked.append((session, person.wire, answer))

    @rule(subject=watchers, unwanted=names, friends=st.booleans())
    def unwatch(self, subject: str, unwanted: list[str], friends: bool) -> None:
        person = self.people[subject]
        if person.session.connection is None:
            return
        person.by_name.difference_update(unwanted)
        person.friends = person.friends and not friends
        node = self.nodes[person.node]
        self.within(lambda: node.unwatch(person.session, PresenceUnwatch(1, unwanted, friends)))

    @rule(subject=watchers)
    def read(self, subject: str) -> None:
        self.people[subject].read()

    @rule(subject=watchers, blocked=st.booleans())
    def block(self, subject: str, blocked: bool) -> None:
        session = self.people[subject].session
        if session.connection is None:
            return
        if blocked:
            session.on_blocked(session.connection)
        else:
            session.on_writable(session.connection)
            self.within(lambda: self.nodes[self.people[subject].node].catch_up(session))

    @rule(subject=watchers)
    def break_off(self, subject: str) -> None:
        person = self.people[subject]
        if person.session.connection is not None:
            person.session.on_closed(person.session.connection, 1006, "")
            person.wire.frames.clear()
            person.asked = [
                (session, wire, answer) for session, wire, answer in person.asked if wire is not person.wire
            ]

    @rule(subject=watchers)
    def come_back(self, subject: str) -> None:
        person = self.people[subject]
        if person.session.connection is not None:
            return
        goes_on = self.within(lambda: self.nodes[person.node].resume(person.session, person.cursor))
        self.plug(person)
        if not goes_on:
            self.watch_again(person)

    @rule(subject=watchers)
    def move(self, subject: str) -> None:
        """The session goes to the other node; its client follows."""
        person = self.people[subject]
        self.within(lambda: self.nodes[person.node].drop(person.session))
        person.wire.frames.clear()
        person.session._hang_up(1000, "")
        person.asked = []
        self.connect(person, 1 - person.node)
        self.watch_again(person)

    def watch_again(self, person: Person) -> None:
        if not (person.by_name or person.friends):
            person.picture, person.versions = {}, {}
        else:
            seen = [SeenPlayer(player, version) for player, version in person.versions.items()]
            self.ask(person, sorted(person.by_name), person.friends, seen)

    # ---- rare sequences ----

    @rule(subject=watchers, player=players)
    def hide_on_a_slow_day(self, subject: str, player: str) -> None:
        """Somebody blocks the watcher, changes, and the new list is late."""
        self.pace(True)
        self.relate(subject, [], [player], True)
        self.change(player)
        self.change(player)
        self.tick()

    @rule(subject=watchers, friends=names)
    def lose_the_news_of_a_list(self, subject: str, friends: list[str]) -> None:
        """The connection breaks with the word of new levels on its way."""
        self.pace(False)
        self.relate(subject, friends, [], True)
        self.run()
        self.tick()
        self.break_off(subject)
        self.come_back(subject)

    @rule(subject=watchers, friends=names)
    def move_after_a_new_list(self, subject: str, friends: list[str]) -> None:
        self.relate(subject, friends, [], True)
        self.move(subject)

    # ---- in the end ----

    @rule()
    def heal(self) -> None:
        """Everything that waits is answered, everybody reads: each picture is what its client may see."""
        for node in NODES:
            self.first_answers(True, node)
            for player in PLAYERS:
                self.lose(player, False, node)
        for subject in WATCHERS:
            self.publish(subject)
        self.pace(False)
        for subject in WATCHERS:
            self.come_back(subject)
            self.block(subject, False)
        for _ in range(6):
            self.run()
            self.within(self.lists.answer)
            self.tick()
        for person in self.people.values():
            person.read()
            for session, _, answer in person.asked:
                assert answer.done() and answer.exception() is None, (person.subject, session, answer)
            person.asked = []
            self.check(person)

    def check(self, person: Person) -> None:
        relations = self.lists.lists[person.subject][-1]
        wanted = person.by_name | (set(relations.friends) if person.friends else set())
        truth = {}
        for player in wanted:
            pictures = self.engines[person.node].shown.get(player, (GONE, 0))[0]
            level = self.level(person.subject, player, relations)
            value = {"e": pictures.everybody, "f": pictures.friends, "o": pictures.own, "gone": packed("gone")}[level]
            truth[player] = msgspec.msgpack.decode(value)
        assert person.picture == truth, person.subject
        if person.friends:
            assert sorted(person.friend_list) == sorted(relations.friends), person.subject
        table = person.session.people
        assert (table.count if table is not None else 0) == len(wanted), person.subject

    def teardown(self) -> None:
        if self.nodes:
            self.heal()
            for person in self.people.values():
                self.within(lambda person=person: self.nodes[person.node].drop(person.session))
            for node, engine in zip(self.nodes, self.engines, strict=True):
                assert engine.entries == {} and node.audiences == {}
            assert self.parts.metrics.presence_watched == 0
            assert self.parts.supervisor.crashes == 0
        self.loop.run_until_complete(self.parts.supervisor.stop())
        self.loop.close()


PresenceMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPresence = PresenceMachine.TestCase

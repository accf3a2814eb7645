"""Two players of the golden conversations in docs/protocol.json: one for the SDK's core, one for live nodes.

Both read the same steps. `CorePlayer` is the world around a client: it sends it the server's lines, moves the time
and compares what the client says, decides and tells. `NodePlayer` is a client that says its lines by rote and
compares what the node says.
"""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

import garrison
from garrison import messages as sdk
from garrison._core import Core
from garrison._decisions import Answer, Deliver, Down, Drop, NeedToken, Open, Part, Stir, Stop, Up
from garrison._people import Following
from garrison._pictures import Picture
from garrison._streams import Stream
from garrison._subscriptions import Subscription
from server.ids import actor_id
from server.sessions.memory import ClientEnd
from server.wire.codec import Format
from tests.support.gateways import World, token
from tests.support.sdk import until
from tests.support.second_client import PUSHES
from tests.support.watchers import looks

Step = dict[str, Any]
DESCRIBED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "protocol.json").read_text("utf-8"))
CONVERSATIONS: list[Step] = DESCRIBED["conversations"]
BY_TYPE: dict[str, Step] = {message["type"]: message for message in DESCRIBED["messages"]}


class WrongLine(AssertionError):
    """A step went otherwise than the conversation has it."""


class Values:
    """The `$` names of a conversation and what they stand for in one play. `others`: who chooses values that are
    learnt by seeing them; all others are known before."""

    def __init__(self, conversation: Step, learnt_from: str) -> None:
        self.specs: dict[str, Step] = conversation["values"]
        self._learnt_from = learnt_from
        self.known: dict[str, Any] = {
            name: spec["example"] for name, spec in self.specs.items() if spec.get("from") != learnt_from
        }

    def fill(self, value: Any) -> Any:
        """`value` with everything that is known in place of its names. A name that is not known yet is a fault
        of the conversation."""
        if isinstance(value, list):
            return [self.fill(each) for each in value]
        if isinstance(value, str) and value.startswith("$"):
            if value not in self.known:
                raise WrongLine(f"{value} is used before anybody has said it")
            return self.known[value]
        return value

    def fits(self, wanted: Any, seen: Any) -> bool:
        """Whether `seen` is what the conversation wants; names that are new are learnt from it."""
        if isinstance(wanted, list):
            return (
                isinstance(seen, list)
                and len(wanted) == len(seen)
                and all(self.fits(*pair) for pair in zip(wanted, seen, strict=True))
            )
        if isinstance(wanted, str) and wanted.startswith("$") and wanted not in self.known:
            if type(seen) is not type(self.specs[wanted]["example"]):
                return False
            self.known[wanted] = seen
            return True
        filled = self.fill(wanted)
        return type(filled) is type(seen) and bool(filled == seen)


def whole(line: Any) -> Any:
    """`line` with the defaults of trailing fields that it leaves out, as in a conversation that was written before
    its message grew."""
    message = BY_TYPE.get(line[0]) if isinstance(line, list) and line and isinstance(line[0], str) else None
    if message is None:
        return line
    missing = message["fields"][len(line) - (1 if message["second"] is None else 2) :]
    if any("default" not in field for field in missing):
        return line
    return [*line, *(field["default"] for field in missing)]


def play(steps: list[Step], do: Callable[[Step], None]) -> None:
    """Do each step. Raises `WrongLine` with the place of the step that went wrong."""
    for number, step in enumerate(steps):
        try:
            do(step)
        except AssertionError as error:
            raise WrongLine(f"step {number}, {json.dumps(step)}: {error}") from error


# ---- against the core --------------------------------------------------------------------------------


class CorePlayer:
    """Plays one conversation against the core of the SDK. `chance`: what the core draws, each time."""

    def __init__(self, conversation: Step, chance: float) -> None:
        self.steps: list[Step] = conversation["steps"]
        self.values = Values(conversation, "client")
        client = conversation["client"]
        self.core = Core(
            self.values.fill(client["seeds"]),
            first=0,
            options=garrison.Options(),
            name=conversation["values"]["$client"]["example"],
            lineage="5c0ffee5",
            renewable=client["renewable"],
            chance=lambda: chance,
        )
        self.now = 1_000.0
        self.done: deque[Step] = deque()
        """The client's acts on its connections that no step has asked for yet."""
        self.told: deque[list[Any]] = deque()
        """News for its program that no step has asked for yet."""
        self._tokens: list[str] = self.values.fill(client["tokens"])
        self._requests: dict[int, str] = {}
        self._watched: dict[str, Subscription] = {}
        self._following: dict[str, Following] = {}
        self._welcomed = False

    def play(self) -> None:
        play(self.steps, self._do)
        self._nothing_else()

    def _do(self, step: Step) -> None:
        if step.get("lost") or "world" in step:
            return
        if "client" in step:
            self._expect(step)
        elif "tells" in step:
            assert self.told, "the program was told nothing"
            told = self.told.popleft()
            assert self.values.fits(step["tells"], told), f"the program was told {told}"
        else:
            self._nothing_else()
            self._input(step)
            self._collect()

    def _nothing_else(self) -> None:
        if self.done:
            raise WrongLine(f"the client did {self.done[0]}")
        if self.told:
            raise WrongLine(f"the program was told {self.told[0]}")

    # ---- in ----

    def _input(self, step: Step) -> None:
        core, now = self.core, self.now
        match step:
            case {"program": "open"}:
                core.start(now)
            case {"program": "request"}:
                self._request(step)
            case {"program": "watch"}:
                self._watched[step["topic"]] = core.watch(step["topic"], step["from_seq"], now)
            case {"program": "watch_latest"}:
                topic = self.values.fill(step["topic"])
                self._watched[topic] = core.watch_latest(topic, now)
            case {"program": "watch_players"}:
                players = self.values.fill(step["players"])
                self._following[str(players)] = core.people.follow(players, False, now)
            case {"program": "unwatch_players"}:
                core.people.leave(self._following.pop(str(self.values.fill(step["players"]))), now)
            case {"program": "unwatch"}:
                core.leave(self._watched.pop(self.values.fill(step["topic"])))
            case {"program": "close"}:
                core.close(now)
            case {"server": "say"}:
                core.received(core.connection, msgpack.packb(self.values.fill(step["line"])), now)
            case {"server": "close"}:
                core.closed(step.get("connection", core.connection), step["code"], "", now)
            case {"server": "break"}:
                core.closed(core.connection, 1006, "connection lost", now)
            case {"passes_ms": ms}:
                self._pass(now + ms / 1_000)
            case _:
                raise WrongLine("no such step")

    def _request(self, step: Step) -> None:
        kind, *fields = self.values.fill(step["message"])
        numbers = [0, "", 0] if BY_TYPE[kind]["command"] else [0]
        message = sdk.REQUESTS[kind]([kind, *numbers, *fields])
        self._requests[self.core.request(message, self.now, retry=step.get("retry"))] = step["as"]

    def _pass(self, until_s: float) -> None:
        while (wake_s := self.core.wake_s) is not None and wake_s <= until_s:
            self.now = max(self.now, wake_s)
            self.core.on_time(self.now)
            self._collect()
        self.now = until_s

    # ---- out ----

    def _expect(self, step: Step) -> None:
        """The client does what the step says, within its time."""
        earliest, latest = (self.now + ms / 1_000 for ms in step.get("after_ms", (0, 0)))
        while not self.done:
            wake_s = self.core.wake_s
            assert wake_s is not None and wake_s <= latest + 1e-6, "the client did nothing in time"
            self._pass(wake_s)
        assert earliest - 1e-6 <= self.now <= latest + 1e-6, f"the client was early: {self.done[0]}"
        done = self.done.popleft()
        assert done["client"] == step["client"], f"the client did {done}"
        for name in ("line", "to", "code"):
            assert self.values.fits(whole(step.get(name)), whole(done.get(name))), f"the client did {done}"
        if step["client"] == "connect":
            self._welcomed = False
            if step.get("fails"):
                self.core.failed(self.core.connection, "nobody there", self.now)
            else:
                self.core.opened(self.core.connection, self.now)
            self._collect()

    def _collect(self) -> None:
        while self.core.pending:
            for decision in self.core.take_decisions():
                self._note(decision)
            for frame in self.core.take_frames():
                self.done.append({"client": "say", "line": msgpack.unpackb(frame)})

    def _note(self, decision: Any) -> None:
        core = self.core
        match decision:
            case NeedToken():
                core.token(self._tokens[0], self.now)
                self._tokens = self._tokens[1:] or self._tokens
            case Open():
                self.done.append({"client": "connect", "to": decision.url})
            case Drop() if self._welcomed:  # before its welcome it may end a connection as it likes
                self.done.append({"client": "drop"})
            case Part():
                if decision.last is not None:
                    self.done.append({"client": "say", "line": msgpack.unpackb(decision.last)})
                self.done.append({"client": "close", "code": decision.code})
            case Up():
                self._welcomed = True
                self.told.append(["up", decision.recovered])
            case Answer():
                name = self._requests.pop(decision.order)
                told = (
                    ["answer", name, decision.value.to_wire()]
                    if decision.error is None
                    else ["error", name, decision.error.code]
                )
                self.told.append(told)
            case Deliver():
                self.told.append(["push", decision.push.to_wire()])
            case Stir():
                self._read(decision.subscription)
            case Stop():
                self.told.append(["over", decision.error.code, getattr(decision.error, "close_code", None)])
            case Drop() | Down():
                pass

    def _read(self, subscription: Subscription) -> None:
        if isinstance(subscription, Stream):
            while (item := self.core.read(subscription, self.now)) is not None:
                self.told.append(["event", subscription.topic, item[0], item[1].to_wire()])
        elif isinstance(subscription, Picture) and subscription.phase != "closed":
            self.told.append(["picture", subscription.topic, subscription.values])
        elif isinstance(subscription, Following) and subscription.news:
            self.told.append(["players", [[player, value] for player, value in subscription.news.items()]])
            subscription.news.clear()
        if subscription.error is not None:
            self.told.append(["error", subscription.topic, subscription.error.code])


# ---- against live nodes --------------------------------------------------------------------------------


class NodePlayer:
    """Plays one conversation against the nodes of `world`, which has those that the conversation names."""

    def __init__(self, conversation: Step, world: World, format: Format = "msgpack") -> None:
        self._format: Format = format
        self.steps: list[Step] = conversation["steps"]
        self.values = Values(conversation, "server")
        self._world = world
        self._connections: list[ClientEnd] = []
        self._inbox: deque[list[Any]] = deque()
        """Lines of the latest connection that no step has asked for yet."""
        self._others: dict[str, Other] = {}
        self._tasks: list[asyncio.Task[None]] = []
        for name, spec in conversation["values"].items():
            self._choose(name, spec)

    def _choose(self, name: str, spec: Step) -> None:
        """Values of this world: addresses, players with their homes, tokens."""
        if "url_of" in spec:
            self.values.known[name] = self._world.nodes[spec["url_of"]].url
        elif "player_of" in spec:
            self.values.known[name] = player_of(self._world, spec["player_of"])
        elif "latest_topic" in spec:
            self.values.known[name] = "board/b1"
        elif "token_of" in spec:
            if spec["token_of"].startswith("$"):
                subject = player_of(self._world, self._home(spec["token_of"]))
            else:
                subject = spec["token_of"]
            good = token(subject, spec["role"], ago_s=3_600 if spec.get("expired") else 0)
            self.values.known[name] = good[:-6] + "AAAAAA" if spec.get("forged") else good

    def _home(self, player: str) -> str:
        return str(self.values.specs[player]["player_of"])

    async def play(self) -> None:
        for number, step in enumerate(self.steps):
            try:
                async with asyncio.timeout(10):
                    await self._do(step)
            except (AssertionError, TimeoutError) as error:
                raise WrongLine(f"step {number}, {json.dumps(step)}: {error or 'nothing came'}") from error
        left = [line for line in self._inbox if line[0] != "beats"]
        if left:
            raise WrongLine(f"the node also said {left}")
        for task in self._tasks:
            await task

    async def _do(self, step: Step) -> None:
        match step:
            case {"client": "connect"} if not step.get("fails"):
                node = next(node for node in self._world.nodes.values() if node.url == self.values.fill(step["to"]))
                self._connections.append(node.listener.connect(self._format))  # type: ignore[union-attr]
                self._inbox.clear()
            case {"client": "say"}:
                await asyncio.sleep(step.get("after_ms", (0,))[0] / 1_000 if step["line"][0] != "heartbeat" else 0)
                self._connections[-1].send(self._pack(self.values.fill(step["line"])))
            case {"client": "close"}:
                self._connections[-1].close(step["code"])
            case {"client": "drop"} | {"server": "break"}:
                self._connections[-1].drop()
            case {"server": "say"} if not step.get("fault"):
                await self._hear(step["line"])
            case {"server": "close"}:
                await self._hear_close(
                    self._connections[step.get("connection", len(self._connections)) - 1], step["code"]
                )
            case {"world": [verb, *what]}:
                await getattr(self, f"_{verb}")(*what)

    async def _hear(self, wanted: list[Any]) -> None:
        """The next line that is wanted. A reply and a push may change places, two pushes may not."""
        while True:
            for line in self._inbox:
                if line[0] == wanted[0]:
                    assert self.values.fits(whole(wanted), whole(line)), f"the node said {line}"
                    self._inbox.remove(line)
                    return
            self._inbox.append(self._unpack(await self._connections[-1].receive()))

    def _pack(self, line: list[Any]) -> bytes:
        return json.dumps(line).encode() if self._format == "json" else bytes(msgpack.packb(line))

    def _unpack(self, frame: bytes) -> list[Any]:
        line = json.loads(frame) if self._format == "json" else msgpack.unpackb(frame)
        assert isinstance(line, list)
        return line

    async def _hear_close(self, end: ClientEnd, code: int) -> None:
        await until(lambda: end.closed is not None)
        assert end.closed is not None and end.closed.code == code, f"closed with {end.closed}"

    # ---- what happens in the world ----

    async def _says(self, who: str, line: list[Any], times: int = 1) -> None:
        """Another connection, of the token `who`, sends a line; with `times` as so many commands in a row."""
        other = self._others.get(who)
        if other is None:
            other = self._others[who] = Other(self._a_node())
            await other.ask([["hello", "$n", self.values.fill(who), None, 0, "other", False]])
        kind, number, lineage, command, *fields = line
        commands = range(command, command + times)
        await other.ask([[kind, number, *self.values.fill([lineage, each, *fields])] for each in commands])

    async def _connects(self, who: str) -> None:
        """Another client connects with token `who`."""
        await Other(self._a_node()).ask([["hello", "$n", self.values.fill(who), None, 0, "other", True]])

    async def _sets(self, topic: str, key: str, value: str | None) -> None:
        """A key of a latest topic changes."""
        other = Other(self._a_node())
        board = self.values.fill(topic).removeprefix("board/")
        await other.ask([["hello", "$n", token("switch", "service")]])
        await other.ask([["light", "$n", board, {key: value}]])

    async def _shows(self, player: str, value: str) -> None:
        """A player looks so from now on."""
        for node in self._world.nodes.values():
            node.gateway.presence.show(self.values.fill(player), looks(value))  # type: ignore[union-attr,call-arg,arg-type]

    async def _ends(self, player: str, code: int) -> None:
        """The application ends the sessions of `player`."""
        node = next(iter(self._world.nodes.values()))
        node.gateway.outlet.end_sessions(self.values.fill(player), code, "for a reason of its own")

    async def _forgotten(self, player: str) -> None:
        """The resume window of the session of `player` ends."""
        subject = self.values.fill(player)
        await until(lambda: all(subject not in node.gateway.table.players for node in self._world.nodes.values()))

    async def _drains(self, name: str) -> None:
        """Node `name` leaves."""
        self._world.show(*self._world.nodes, leaving=[name])
        self._tasks.append(asyncio.ensure_future(self._world.nodes[name].gateway.stop(4.0)))

    async def _disagree(self, *names: str) -> None:
        """Each of the nodes sees itself leaving and the other one staying."""
        for name in names:
            self._world.tell(name, self._world.view(*names, leaving=[name]))

    async def _agree(self, *names: str) -> None:
        """All of them see all of them stay."""
        self._world.show(*names)

    def _a_node(self) -> ClientEnd:
        node = next(iter(self._world.nodes.values()))
        return node.listener.connect("msgpack")  # type: ignore[union-attr]


class Other:
    """Somebody else's connection."""

    def __init__(self, end: ClientEnd) -> None:
        self._end = end
        self._numbers = itertools.count(1)

    async def ask(self, lines: list[list[Any]]) -> None:
        """Send lines with numbers of its own, and wait for their answers, of which none is an error."""
        asked = {next(self._numbers): line for line in lines}
        for number, line in asked.items():
            self._end.send(msgpack.packb([line[0], number, *line[2:]]))
        while asked:
            answer = msgpack.unpackb(await self._end.receive())
            if answer[0] not in PUSHES:
                assert answer[0] != "error", answer
                asked.pop(answer[1], None)


def player_of(world: World, name: str) -> str:
    """A player whose slot belongs to node `name`."""
    system = next(iter(world.nodes.values())).system
    actor = system.app.session_actor
    assert actor is not None
    for number in itertools.count():
        owner = system.owner(actor_id(actor.kind, f"noble-{number}"))
        if owner is not None and owner.node == name:
            return f"noble-{number}"
    raise AssertionError

"""Frames of commit 7cd968a, between nodes and with clients, as bytes with what they mean: recorded
between two nodes of which one is drained, and encoded for what does not come up there."""

import asyncio
import itertools
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from old_node import KEY, WALL_MS, settle_machine
from talk import Talk, talk

from server.actors import calls, parcels
from server.cluster.membership import to_meta
from server.cluster.view import Member
from server.directory.messages import Handoff, Heard, Hint, Word, pack
from server.errors import GarrisonError, from_wire
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.main import build_node, gossip_endpoint
from server.sessions import handover, streams
from server.sessions.tokens import issue
from server.settings import from_tree
from server.storage.journal.record import encode_payload, frame, run_seed
from server.transport import frames, login
from server.transport.tcp import TcpTransport

MOST = 6
"""So many frames of one service and type are kept."""
_word = msgspec.msgpack.Decoder(Word | Hint)
_heard = msgspec.msgpack.Decoder(Heard)
_parcel = msgspec.msgpack.Decoder(parcels.Parcel)


def plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def token(subject: str, role: str = "player") -> str:
    return issue(KEY.encode(), subject, role, 10 * 365 * 86_400.0, WALL_MS)


# ---- what a payload means ------------------------------------------------------------------------------


def meaning(service: int, payload: bytes) -> Any:
    match service:
        case 1:
            call = calls.decode_call(payload)
            args = msgspec.msgpack.decode(call.args)
            return plain([call.id, call.method, args, call.timeout_ms, call.chain, call.here])
        case 2:
            return plain(_word.decode(payload))
        case 3:
            return plain(streams._decode(payload))
        case 4 | 7:
            return plain(msgspec.msgpack.decode(payload)) if payload else None
        case 5:
            message = parcels.decode(payload)
            told = plain(message)
            if isinstance(message, parcels.Ship):
                told.append([plain(_parcel.decode(parcel)) for parcel in message.parcels])
            return told
        case 6:
            return plain(handover.decode(payload))
    raise AssertionError(service)


def meaning_of_answer(service: int, payload: bytes, answer: bytes) -> Any:
    if service == 2:
        return plain(_heard.decode(answer))
    return plain(msgspec.msgpack.decode(answer)) if answer else None


# ---- recorded between two nodes ------------------------------------------------------------------------


class Recorder:
    """Everything that the transports of this process are given to send."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        request, send = TcpTransport.request, TcpTransport.send
        recorder = self

        def recorded_request(transport: Any, to: NodeAddress, service: int, payload: bytes, timeout_s: float) -> Any:
            item = recorder.note(transport, to, service, payload, True)
            future = request(transport, to, service, payload, timeout_s)

            def answered(done: Any) -> None:
                if not done.cancelled() and done.exception() is None:
                    item["answer"] = done.result()

            future.add_done_callback(answered)
            return future

        def recorded_send(transport: Any, to: NodeAddress, service: int, payload: bytes) -> None:
            recorder.note(transport, to, service, payload, False)
            send(transport, to, service, payload)

        TcpTransport.request, TcpTransport.send = recorded_request, recorded_send

    def note(self, transport: Any, to: NodeAddress, service: int, payload: bytes, asks: bool) -> dict[str, Any]:
        me = str(transport._context.me)
        item = {"from": me, "to": str(to), "service": service, "payload": bytes(payload), "asks": asks, "answer": None}
        self.items.append(item)
        return item

    def told(self) -> list[dict[str, Any]]:
        """A few of each type, the longest ones; of what moves sessions and actors all."""
        by_type: dict[Any, list[dict[str, Any]]] = {}
        for place, item in enumerate(self.items):
            service, payload = item["service"], item["payload"]
            told = meaning(service, payload)
            answer = item["answer"]
            means = None if answer is None else meaning_of_answer(service, payload, answer)
            if service == 5 and answer is not None and item["asks"] and told[0] == 3:
                means = None  # the answer of a call, in the words of its method
            kind = told[0] if service in (2, 3, 4, 5, 6) else told[1] if service == 1 else ""
            entry = {
                **item,
                "place": place,
                "payload": payload.hex(),
                "answer": None if answer is None else answer.hex(),
                "means": told,
                "answer_means": means,
            }
            by_type.setdefault((service, kind), []).append(entry)
        kept = []
        for (service, _), some in by_type.items():
            most = len(some) if service in (5, 6) else MOST
            kept += sorted(some, key=lambda entry: -len(entry["payload"]))[:most]
        return sorted(kept, key=lambda entry: entry["place"])


def tree(node: str, work: Path, seeds: str) -> dict[str, Any]:
    return {
        "node": node,
        "cluster": "golden",
        "app": "old_app:App",
        "store": {"url": f"sqlite:///{work}/frames.db", "segment_entries": 16},
        "gateway": {"port": 0},
        "admin": {"enabled": False},
        "gossip": {"seeds": [seeds] if seeds else []},
        "security": {"signing_key": KEY},
        "log": {"level": "error"},
    }


async def until(condition: Any, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def two_nodes(work: Path) -> dict[str, Any]:  # noqa: PLR0915 - one story
    """Two nodes with players, a match and purses, of which the first is drained."""
    from migrations import upgrade_async

    await upgrade_async(f"sqlite:///{work}/frames.db")
    recorder = Recorder()
    first = build_node(from_tree(tree("node-1", work, "")))
    await first.start()
    second = build_node(from_tree(tree("node-2", work, gossip_endpoint(first))))
    await second.start()
    nodes = (first, second)
    await until(lambda: all([m.state for m in node.host.view.members.values()] == ["up", "up"] for node in nodes))
    clients: dict[str, Talk] = {}

    def here(kind: str, count: int, node: str = "node-1") -> list[str]:
        names = (f"{kind[0]}{number}" for number in itertools.count())
        owned = (name for name in names if first.host.owner(ActorId(f"{kind}/{name}")).node == node)
        return list(itertools.islice(owned, count))

    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(talk(first.client_url, token("arena-1", "host")))
        (match,) = here("match", 1)
        names = here("player", 4)
        (guest,) = here("player", 1, "node-2")
        purses, far = here("purse", 3), here("purse", 2, "node-2")
        await host.command("match.create", match, ["recorded", "Recharge", 0, 0, 0, 0, True, 0])
        for number, name in enumerate(names):
            client = await stack.enter_async_context(talk(first.client_url, token(name), text=number == 1))
            clients[name] = client
        clients[guest] = await stack.enter_async_context(talk(first.client_url, token(guest), redirects=False))
        wide = await stack.enter_async_context(talk(second.client_url, token("arena-2", "host")))
        for client in (*clients.values(), wide):
            answer = await client.ask("watch", f"match/{match}", 1)
            assert answer[0] == "watching", answer
        for client in clients.values():
            answer = await client.command("match.join", match, None)
            assert answer[0] == "accepted", answer
        await host.command("match.start", match, 0)
        for number in range(20):
            kills = [["kill", 1_000 * number, names[number % 4], names[(number + 1) % 4]]]
            await host.command("match.report", match, kills)
        for key in (*purses, *far):
            await host.ask("purse.add", key, 5, f"of {key}")
            await wide.ask("purse.add", key, 6, f"again of {key}")
        await host.ask("purse.remind", purses[0], 4_102_444_800_000)
        (tally,) = here("tally", 1)
        for number in range(30):
            await host.ask("tally.add", tally, number % 3)
        await wide.ask("match.list", 100)
        await wide.ask("presence.get", names[0])
        for client in clients.values():
            await client.ask("presence.set", "busy", "Slayer on Recharge")
            await client.command("profile.set", "The Player", "an emblem")
            while client.pushed and client.pushed[-1][0] != "events":
                client.pushed.pop()
        clients[names[3]].abort()
        await until(lambda: any(session.connection is None for session in first.gateway.sessions.values()))
        tokens = {name: client.welcome[6] for name, client in clients.items()}
        stop = asyncio.Event()

        async def busy() -> None:
            while not stop.is_set():
                await asyncio.gather(*(second.host.ask(ActorId(f"purse/{key}"), "get", _get(key)) for key in purses))
                await asyncio.sleep(0.001)

        task = asyncio.create_task(busy())
        await first.drain()
        await until(lambda: (p := first.drain_progress())["activations_left"] + p["sessions_left"] == 0)
        stop.set()
        await task
        answers = {}
        for request, keys in (("purse.get", purses), ("tally.get", [tally]), ("match.get", [match])):
            for key in keys:
                answer = await wide.ask(request, key)
                answers[f"{request} {key}"] = [answer[0], *answer[2:]]
        sent = {
            name: [[way, data.hex()] for way, data in client.frames]
            for name, client in (("msgpack", clients[names[0]]), ("json", clients[names[1]]), ("host", host))
        }
    await second.stop()
    await first.stop()
    return {"frames": recorder.told(), "resume": tokens, "answers": answers, "clients": sent}


def _get(key: str) -> tuple[Any, ...]:
    from old_app import PurseGet

    from server.actors.actor import Caller

    return (Caller("service", "busy"), PurseGet(1, key))


# ---- encoded for what does not come up -------------------------------------------------------------------


def encoded() -> list[dict[str, Any]]:
    """Every message of the links by name."""
    a, b = NodeAddress(NodeId("node-1"), Incarnation(1)), NodeAddress(NodeId("node-2"), Incarnation(2))
    ids = [ActorId("purse/one"), ActorId("match/two")]
    packed = handover.Packed(
        "f" * 32,
        "node-1-1-1",
        "ann",
        "player",
        "msgpack",
        True,
        3,
        WALL_MS,
        7,
        4,
        [b"5th", b"6th"],
        [("match/m", 9)],
        5,
    )
    attached = handover.Packed("e" * 32, "node-1-1-2", "bob", "player", "json", False, 1, WALL_MS, 0, 0, [], [])
    few, many = pack(np.array([1, 5, 65_535])), pack(np.arange(0, 65_536, 2))
    handoff = Handoff(4, 3, 2**63 + 1, few, b"", [(a.node, a.incarnation, ids)])
    word = Word(9, 2**63 + 1, ids, ids[:1], ids[1:], ids, [], [(1, few), (2, many)], [3, 4], handoff, True)
    call = calls.encode_call(ids[0], "add", (["player", "ann", ""], ["purse.add", 1, "one", 5, "note"]), 4.5, (), False)
    chain = calls.encode_call(ids[0], "ring", (WALL_MS,), 0.25, (ids[1],), True)
    entry = (ids[0], Epoch(3), 17, {"coins": 4})
    by_service: list[tuple[int, str, bytes]] = [
        (1, "call", call),
        (1, "call in a chain", chain),
        (2, "word", msgspec.msgpack.encode(word)),
        (2, "short word", msgspec.msgpack.encode(Word(1, 7))),
        (2, "hint", msgspec.msgpack.encode(Hint(ids[0], b.node, b.incarnation))),
        (3, "events", streams._encode(streams._EventsTo(ids[1], 7, [b"\x93\xa4kill\x01\xa3ann"]))),
        (3, "push", streams._encode(streams._PushTo("ann", b"\x93\xaematch.assigned\x00\xa1m", 2, True))),
        (3, "served here", streams._encode(streams._ServedHere(["ann", "bob"], a))),
        (3, "served here only", streams._encode(streams._ServedHere(["ann"]))),
        (4, "query", msgspec.msgpack.encode(("live_matches", {"limit": 10}))),
        (5, "offer", parcels.encode(parcels.Offer(3, b.incarnation, ids))),
        (5, "go", parcels.encode(parcels.Go(3, b.incarnation, ids, ids[1:]))),
        (5, "queued", parcels.encode(parcels.Queued(3, b.incarnation, call))),
        (5, "open", parcels.encode(parcels.Open(3, b.incarnation, ids))),
        (5, "over", parcels.encode(parcels.Over(3, b.incarnation))),
        (6, "ship", handover.encode(handover.Ship([packed, attached]))),
        (6, "want", handover.encode(handover.Want([handover.Wanted("f" * 32, "ann", "player")]))),
        (6, "forget", handover.encode(handover.Forget("f" * 32, 3, "moved"))),
    ]
    told = [
        {"service": service, "name": name, "payload": payload.hex(), "means": meaning(service, payload)}
        for service, name, payload in by_service
    ]
    assert frame(encode_payload(entry), 1, run_seed("golden", a))
    return told


def link() -> dict[str, Any]:
    """The login of a link and its frames."""
    a, b = NodeAddress(NodeId("node-1"), Incarnation(1)), NodeAddress(NodeId("node-2"), Incarnation(2))
    key, nonce, other = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
    hello = login.hello("golden", a, b, nonce)
    kinds = {
        name: getattr(frames, name)
        for name in ("HELLO", "CHALLENGE", "PROOF", "READY", "REFUSED", "REQUEST", "ONE_WAY", "RESPONSE", "ERROR")
    } | {"PING": frames.PING, "PONG": frames.PONG}
    made = {
        name: frames.frame(kind, f"payload of {name}".encode(), kind % 8, 2**40 + kind) for name, kind in kinds.items()
    }
    codes = sorted({cls.code for cls in _all(GarrisonError)} | {"match_full"})
    errors = {code: frames.encode_error(from_wire(code, f"because of {code}", 1.5)).hex() for code in codes}
    member = Member(NodeId("node-1"), Incarnation(7), 4, "leaving", "10.0.0.1:7380", "ws://a:1", "http://a:2", 12, 3)
    return {
        "cluster": "golden",
        "key": key.hex(),
        "nonce": other.hex(),
        "hello": login.encode_hello(hello).hex(),
        "hello_means": plain(hello),
        "proofs": {
            role: {name: login.proof(held, role, hello, other).hex() for name, held in (("key", key), ("none", None))}
            for role in ("dialler", "acceptor")
        },
        "frames": {name: [kinds[name], data.hex()] for name, data in made.items()},
        "errors": errors,
        "member": {"name": "node-1#7", "meta": to_meta(member), "means": plain(member)},
    }


def _all(cls: type[Any]) -> list[type[Any]]:
    return [cls, *(each for child in cls.__subclasses__() for each in _all(child))]


async def make(work: Path, old_tree: Path) -> dict[str, Any]:
    settle_machine("frames")
    described = json.loads((old_tree / "docs/protocol.json").read_text())
    return {
        "nodes": {**await two_nodes(work), "encoded": encoded(), "link": link()},
        "clients": {name: described[name] for name in ("golden", "errors", "close_codes", "messages", "events")},
    }

"""Frames of commit 7cd968a, between nodes and with clients, read by the program of today: each of them
means what it meant, and is written again with the same bytes.

Seen to fail, while they were made: another meaning, a byte turned or cut off, a field taken out of a message. A
turned byte is kept as a test for each service.
"""

import base64
import itertools
import json
from collections.abc import Iterable
from typing import Any

import msgpack
import msgspec
import pytest

from game.app import App as Game
from tests.golden import faces, shelf
from tests.golden.app import App
from tests.support.engine import cluster
from tests.support.gateways import gateways

NODES: dict[str, Any] = shelf.parsed("frames", "nodes")
CLIENTS: dict[str, Any] = shelf.parsed("frames", "clients")
FRAMES: list[dict[str, Any]] = [*NODES["frames"], *NODES["encoded"]]
CALL, DIRECTORY, STREAM, QUERY, MIGRATE, SESSION, NODE = range(1, 8)
GOLDEN: list[dict[str, Any]] = CLIENTS["golden"]
ANSWERS = {str(cls.__struct_config__.tag): cls for cls in (*faces.ENGINE_ANSWERS, *App.answers)}
PUSHES = ("events", "going", "match.assigned")


# ---- between nodes ----


def read(service: int, payload: bytes) -> Any:
    """A message of today's."""
    match service:
        case 1:
            return faces.decode_call(payload)
        case 2:
            return faces.decode_word(payload)
        case 3:
            return faces.decode_stream(payload)
        case 5:
            return faces.parcels.decode(payload)
        case 6:
            return faces.transfer_frames.decode(payload)
    return msgspec.msgpack.decode(payload) if payload else None


def meaning(service: int, message: Any) -> Any:
    """As the old code told it."""
    if service == CALL:
        args = msgspec.msgpack.decode(message.args)
        return shelf.plain([message.id, message.method, args, message.timeout_ms, message.chain, message.here])
    told = shelf.plain(message)
    if service == MIGRATE and isinstance(message, faces.parcels.Ship):
        parcels = [shelf.plain(faces.decode_parcel(parcel)) for parcel in message.parcels]
        assert all(parcel.pop() is None for parcel in parcels)  # `stays`, since
        assert all(parcel.pop() == 0 for parcel in parcels)  # `reminder_number`, since
        assert all(parcel.pop() is None for parcel in parcels)  # `shown`, since
        assert all(parcel.pop() is False for parcel in parcels)  # `all_told`, since
        log = faces.parcels.Parcel.__struct_fields__.index("log")
        assert all(parcel[log].pop() is None for parcel in parcels if parcel[log] is not None)  # `public`, since
        told.append(parcels)
    if isinstance(message, faces.transfer_frames.Shipment):
        without_new_fields(told[1])
    if isinstance(message, faces.stream_frames.EventsTo):
        assert told.pop() == -1  # `public_seq`
        assert told.pop() == ""  # `mark`
        assert told.pop() == [0, 0]  # `guard`
    return told


def without_new_fields(sessions: list[list[Any]]) -> None:
    """Take out of packed sessions what was not told then: `client`, `pulled`, and those of a login."""
    new = ["", False, "", 0, 0, 0, ""]
    for packed in sessions:
        assert packed[-len(new) :] == new
        del packed[-len(new) :]


def written(message: Any) -> bytes:
    """The bytes of a message, without fields that arrays have got since."""
    again = msgspec.msgpack.encode(message)
    if isinstance(message, faces.CallFrame):
        told = msgspec.msgpack.decode(again)
        assert told.pop() is False  # `stored`
        return msgspec.msgpack.encode(told)
    if isinstance(message, faces.transfer_frames.Shipment):
        told = msgspec.msgpack.decode(again)
        without_new_fields(told[1])
        return msgspec.msgpack.encode(told)
    if isinstance(message, faces.stream_frames.EventsTo):
        told = msgspec.msgpack.decode(again)
        assert told.pop() == -1  # `public_seq`
        assert told.pop() == ""  # `mark`
        assert told.pop() == [0, 0]  # `guard`
        return msgspec.msgpack.encode(told)
    return again


def named(some: Iterable[dict[str, Any]]) -> list[Any]:
    return [pytest.param(said, id=f"{said['service']}-{said.get('name', said.get('place'))}") for said in some]


@pytest.mark.parametrize("said", named(FRAMES))
def test_a_payload_means_what_it_meant(said: dict[str, Any]) -> None:
    payload = bytes.fromhex(said["payload"])
    message = read(said["service"], payload)
    assert meaning(said["service"], message) == said["means"]
    if payload:
        assert written(message) == payload
    if said.get("answer") is not None and said["answer_means"] is not None:
        answer = bytes.fromhex(said["answer"])
        told = faces.decode_heard(answer) if said["service"] == DIRECTORY else msgspec.msgpack.decode(answer)
        assert shelf.plain(told) == said["answer_means"]
        assert msgspec.msgpack.encode(told) == answer


def test_every_service_has_its_frames() -> None:
    kinds = {(said["service"], said["means"][0]) for said in FRAMES if said["service"] in (STREAM, MIGRATE, SESSION)}
    assert {service for service, _ in kinds} | {said["service"] for said in FRAMES} >= {1, 2, 3, 4, 5, 6}
    for service, count in ((STREAM, 3), (MIGRATE, 6), (SESSION, 3)):
        assert {kind for of, kind in kinds if of == service} == set(range(count))


@pytest.mark.parametrize("said", named({said["service"]: said for said in FRAMES}.values()))
def test_a_turned_byte_is_seen(said: dict[str, Any]) -> None:
    """A refusal, or another meaning."""
    payload = bytes.fromhex(said["payload"])
    same = 0
    for place in range(min(len(payload), 200)):
        turned = bytearray(payload)
        turned[place] ^= 0x20
        try:
            same += meaning(said["service"], read(said["service"], bytes(turned))) == said["means"]
        except (faces.GarrisonError, msgspec.MsgspecError, ValueError, TypeError):
            continue
    assert same == 0


def test_a_login_is_said_as_then() -> None:
    link, login = NODES["link"], faces.login
    hello = login.decode_hello(bytes.fromhex(link["hello"]))
    assert shelf.plain(hello) == link["hello_means"]
    assert login.encode_hello(hello).hex() == link["hello"]
    for role, proofs in link["proofs"].items():
        for name, proof in proofs.items():
            key = bytes.fromhex(link["key"]) if name == "key" else b""
            assert login.proof(key, role, hello, bytes.fromhex(link["nonce"])).hex() == proof
    other = msgspec.structs.replace(hello, to_incarnation=3)
    assert login.proof(b"", "dialler", other, bytes.fromhex(link["nonce"])).hex() != link["proofs"]["dialler"]["none"]


def test_a_links_frames_are_cut_as_then() -> None:
    data = b"".join(bytes.fromhex(frame) for _, frame in NODES["link"]["frames"].values())
    expected = [
        (kind, kind % 8, 2**40 + kind, f"payload of {name}".encode())
        for name, (kind, _) in NODES["link"]["frames"].items()
    ]
    assert faces.link_frames.FrameReader(1_000).feed(data) == expected
    reader = faces.link_frames.FrameReader(1_000)
    assert [frame for at in range(len(data)) for frame in reader.feed(data[at : at + 1])] == expected
    for name, (kind, frame) in NODES["link"]["frames"].items():
        again = faces.link_frames.frame(kind, f"payload of {name}".encode(), kind % 8, 2**40 + kind)
        assert (getattr(faces.link_frames, name), again.hex()) == (kind, frame)
    with pytest.raises(faces.BadFrame):
        faces.link_frames.FrameReader(1_000).feed(data[:4] + b"\x02" + data[5:])


@pytest.mark.parametrize("code", NODES["link"]["errors"])
def test_an_error_of_a_node_is_that_error(code: str) -> None:
    error = faces.link_frames.decode_error(bytes.fromhex(NODES["link"]["errors"][code]))
    generic = {"retry": "retry", "bad_setting": "bad_setting"}
    assert error.code == generic.get(code, code)
    assert f"because of {code}" in (error.message, getattr(error, "address", ""))


def test_a_members_metadata_is_that_of_then() -> None:
    then = NODES["link"]["member"]
    member = faces.from_meta(then["name"], then["meta"], False)
    assert shelf.has(shelf.plain(member)[: len(then["means"])], then["means"])
    assert shelf.has(faces.to_meta(member), then["meta"])


# ---- a session in transfer, an activation in migration ----


def shipped() -> list[Any]:
    """The sessions that moved, as JSON has them, with the payload that each came in."""
    ships = [said for said in NODES["frames"] if said["service"] == SESSION]
    return [(packed, bytes.fromhex(said["payload"])) for said in ships for packed in said["means"][1]]


async def test_a_session_of_then_goes_on_at_a_gateway_of_today() -> None:
    """Each shipped session is installed, and resumed where its client was: the pushes that are due follow."""
    sessions = shipped()
    assert {packed[3] for packed, _ in sessions} == {"player", "host"}
    assert {packed[4] for packed, _ in sessions} == {"msgpack", "json"}
    async with gateways(("node-1", "node-2"), app=App) as world:
        world.show("node-1", "node-2", leaving=("node-1",))
        sender, receiver = world.nodes["node-1"].system, world.nodes["node-2"].system
        for payload in dict.fromkeys(payload for _, payload in sessions):
            answer = await sender.transport.request(receiver.me, SESSION, payload, 5.0)
            assert set(msgspec.msgpack.decode(answer)) == {0}
        for packed, _ in sessions:
            resume, _, subject, role, format, acked, frames = (*packed[:5], packed[9], packed[10])
            ack = acked + len(frames) // 2
            client = world.client("node-2", subject, role, format)
            welcome = await client.hello(resume=resume, ack=ack)
            assert welcome[0] == "welcome", welcome
            assert welcome[7] is True, (subject, welcome)
            due = [client.unpack(base64.b64decode(frame)) for frame in frames[ack - acked :]]
            came = [said for said in client.seen if said[0] in PUSHES]
            while len(came) < len(due):
                came.append(await client.receive())
            assert came[: len(due)] == due
            assert [said[1] for said in came] == list(range(ack + 1, ack + 1 + len(came)))


async def test_a_forged_session_is_refused() -> None:
    """The same with a field spoilt: nothing is installed, and its client begins anew."""
    (packed, payload), *_ = shipped()
    async with gateways(("node-1", "node-2"), app=App) as world:
        sender, receiver = world.nodes["node-1"].system, world.nodes["node-2"].system
        spoilt = payload.replace(b"\xa4host", b"\xa4hosr").replace(b"\xa6player", b"\xa6playes")
        assert spoilt != payload
        answer = await sender.transport.request(receiver.me, SESSION, spoilt, 5.0)
        assert set(msgspec.msgpack.decode(answer)) == {1}
        assert world.nodes["node-2"].gateway.table.sessions == {}
        client = world.client("node-2", packed[2], packed[3], packed[4])
        welcome = await client.hello(resume=packed[0], ack=packed[9], redirects=False)
        assert (welcome[0], welcome[7]) == ("welcome", False)


@pytest.mark.virtual_time
async def test_activations_of_then_arrive_at_a_node_of_today() -> None:
    """The words of each migration, one after the other: the actors live there with all that they had."""
    words = [said for said in NODES["frames"] if said["service"] == MIGRATE and said["to"] == "node-2#2"]
    async with cluster(("node-1", "node-2"), App) as world:
        sender, receiver = world.systems["node-1"], world.systems["node-2"]
        for said in words:
            payload = bytes.fromhex(said["payload"])
            if not said["asks"]:
                sender.transport.send(receiver.me, MIGRATE, payload)
                continue
            answer = await sender.transport.request(receiver.me, MIGRATE, payload, 5.0)
            if said["answer_means"] is not None and said["means"][0] == 1:
                assert msgspec.msgpack.decode(answer) == said["answer_means"]
        parcels = [parcel for said in words if said["means"][0] == 1 for parcel in said["means"][-1]]
        assert sorted({parcel[0].partition("/")[0] for parcel in parcels}) == ["match", "player", "purse", "tally"]
        for parcel in parcels:
            identity, epoch, version, state = parcel[:4]
            found = receiver.find(faces.ActorId(identity))
            assert found is not None, identity
            assert (found.epoch, found.version) == (epoch, version), identity
            assert shelf.has(
                shelf.plain(found.actor.state), shelf.plain(msgspec.msgpack.decode(base64.b64decode(state)))
            )
            timers = {name: left for name, left, _ in parcel[5]}
            assert {name for name, _, _ in found.timers_left()} == set(timers), identity
        for question, answer in NODES["answers"].items():
            request, key = question.split()
            kind, method = request.split(".")
            (cls,) = [each for each in App.requests if each.__struct_config__.tag == request]
            caller = faces.Caller("service", "golden")
            told = await receiver.ask(faces.ActorId(f"{kind}/{key}"), method, (caller, cls(1, key)))
            wire = shelf.plain(told)
            assert shelf.says([wire[0], *wire[2:]], answer), question


# ---- with clients ----


def both(frame: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [("json", frame["json"].encode()), ("msgpack", bytes.fromhex(frame["msgpack"]))]


def generic(format: str, data: bytes) -> Any:
    return json.loads(data) if format == "json" else msgpack.unpackb(data)


def grown(before: Any, after: Any) -> bool:
    """Whether `after` is `before` with empty places more at the end of arrays in it, which is how messages grow."""
    if not (isinstance(before, list) and isinstance(after, list)):
        return type(before) is type(after) and bool(before == after)
    return all(map(grown, before, after)) and len(before) <= len(after) and not any(after[len(before) :])


@pytest.mark.parametrize("frame", GOLDEN, ids=lambda frame: f"{frame['type']}-{len(frame['wire'])}")
def test_a_client_frame_means_what_it_meant(frame: dict[str, Any]) -> None:
    wire = frame["wire"]
    requests = (*faces.ENGINE_REQUESTS, *App.requests)
    is_request = frame["type"] in {str(cls.__struct_config__.tag) for cls in requests}
    for format, data in both(frame):
        codec: Any = faces.Codec(format, requests)  # type: ignore[arg-type]
        if is_request:
            message = codec.decode(data)
        else:
            decode = msgspec.json.decode if format == "json" else msgspec.msgpack.decode
            message = decode(data, type=ANSWERS[frame["type"]])
        again = generic(format, codec.encode(message))
        assert again[: len(wire)] == wire or grown(wire, again[: len(wire)])
        full = all(len(other["wire"]) <= len(wire) for other in GOLDEN if other["type"] == frame["type"])
        if full and len(again) == len(wire):
            assert codec.encode(message) == data


def test_no_client_message_has_gone() -> None:
    now = {str(cls.__struct_config__.tag) for cls in (*faces.ENGINE_REQUESTS, *App.requests)} | set(ANSWERS)
    then = {frame["type"] for frame in GOLDEN}
    assert len(then) == 35
    assert then <= now
    assert set(CLIENTS["events"]) <= {str(cls.__struct_config__.tag) for cls in Game.events}


@pytest.mark.parametrize("name", NODES["clients"])
def test_a_talk_of_then_reads(name: str) -> None:
    """Every frame that a client and a node of then exchanged."""
    text = name == "json"
    codec: Any = faces.Codec("json" if text else "msgpack", (*faces.ENGINE_REQUESTS, *App.requests))
    kinds: set[str] = set()
    for way, frame in NODES["clients"][name]:
        data = bytes.fromhex(frame)
        wire = json.loads(data) if text else msgpack.unpackb(data)
        kinds.add(wire[0])
        if way == ">":
            message = codec.decode(data)
        else:
            decode = msgspec.json.decode if text else msgspec.msgpack.decode
            message = decode(data, type=ANSWERS[wire[0]])
        again = generic(codec.format, codec.encode(message))
        assert again[: len(wire)] == wire or grown(wire, again[: len(wire)])
    assert kinds >= {"hello", "welcome"}


@pytest.mark.parametrize("frame", GOLDEN[:: max(1, len(GOLDEN) // 8)], ids=lambda frame: str(frame["type"]))
def test_another_client_frame_is_seen(frame: dict[str, Any]) -> None:
    data = bytearray(bytes.fromhex(frame["msgpack"]))
    data[2] ^= 0x04  # a letter of the type
    types = {str(cls.__struct_config__.tag) for cls in (*faces.ENGINE_REQUESTS, *App.requests)} | set(ANSWERS)
    assert msgpack.unpackb(bytes(data))[0] not in types


ASKED_FURTHER = {4001: "each_once"}
"""A refused token: the SDK of then gave up at the first node, that of today has asked each address once."""


def test_codes_of_then_mean_the_same() -> None:
    from garrison import errors, messages

    for error in CLIENTS["errors"]:
        if error["code"] in errors.BY_CODE:
            assert errors.BY_CODE[error["code"]].__name__ == error["name"]
    codes = {said["code"]: said["retry"] for said in CLIENTS["close_codes"]}
    assert {code: messages.CLOSE_CODES[code].retry for code in codes} == codes | ASKED_FURTHER
    assert list(itertools.islice(codes, 1))

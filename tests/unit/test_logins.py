"""What a session's actor is told of a session: its login."""

import asyncio

import jwt
import msgspec
import pytest
from msgspec.structs import replace

from server.actors.devices import Login, mark_of
from server.errors import BadInput, BadToken
from server.sessions.tokens import check, own_rules
from tests.support.session_parts import ME, Parts

KEY = b"k" * 32
LOGIN = Login("s1", "console", "n1", 3, 2, "game 1.0", 5, "allow:2", 7)


def test_a_login_of_a_later_version_is_read_and_one_of_an_earlier_is_told_with_defaults() -> None:
    later = msgspec.msgpack.encode([*msgspec.to_builtins(LOGIN), "more"])
    assert msgspec.msgpack.decode(later, type=Login) == LOGIN
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(["s1"]), type=Login) == Login("s1")


def test_each_login_that_is_told_again_has_a_higher_number() -> None:
    parts = Parts(login_policy="allow:2")
    session, bindings = parts.session(), parts.bindings()
    session.device, session.client, session.issued_ms = "console", "game 1.0", 5
    bindings.connect(session)
    parts.clock.at += 2
    bindings.resumed(session)
    bindings.beat_elsewhere(session, None)
    first, resumed, bound = (args[1] for _, name, args in parts.actors.calls if name == "connected")
    name = session.caller.session
    assert first == Login(
        name, "console", ME.node, ME.incarnation, 0, "game 1.0", 5, "allow:2", 0, mark_of(session.resume)
    )
    assert resumed == replace(first, number=1, age_ms=2_000) and bound == replace(first, number=2, age_ms=2_000)


async def test_an_actor_at_a_node_of_an_earlier_version_is_asked_in_its_words() -> None:
    parts = Parts()
    session, bindings = parts.session(), parts.bindings()
    assert bindings.connect_without_login(session, None) is None
    assert bindings.connect_without_login(session, BadInput("no")) is None
    again = bindings.connect_without_login(session, BadInput("arguments of connected: 3 too many"))
    assert again is not None
    await again
    parts.actors.answers["connected"] = refused = asyncio.get_running_loop().create_future()
    parts.actors.calls = []
    refused.set_exception(BadInput("arguments of connected: no"))
    beat = bindings.beat_elsewhere(session, None)
    parts.actors.answers["connected"] = None
    await beat
    assert [(name, len(args)) for _, name, args in parts.actors.calls] == [
        ("connected", 2),
        ("connected", 1),
        ("beat", 2),
    ]


@pytest.mark.parametrize("device", ["", "console", "a" * 32])
def test_the_kind_of_the_device_is_a_claim(device: str) -> None:
    rules, now_ms = replace(own_rules(KEY), device_claim="dev"), 1_000_000
    claims = {"sub": "p", "role": "player", "iat": 1_000, "exp": 1_600, "iss": "garrison", "dev": device}
    assert check(jwt.encode(claims, KEY, "HS256"), rules, now_ms).device == device
    assert check(jwt.encode(claims, KEY, "HS256"), own_rules(KEY), now_ms).device == ""
    for wrong in ("a" * 33, 5, None, "a b"):
        with pytest.raises(BadToken, match="dev is not a kind of device"):
            check(jwt.encode({**claims, "dev": wrong}, KEY, "HS256"), rules, now_ms)

"""Marks of tokens that were checked, and resumptions that are let in by them."""

import asyncio

import pytest

from server.sessions import greeter
from server.sessions.known_tokens import KnownTokens
from server.sessions.tokens import TokenClaims, TokenRules, check, own_rules
from server.wire.messages import CloseCode
from tests.support.gateways import KEY, MemoryClient, World, gateways, token


def test_a_mark_is_its_tokens_only() -> None:
    known = KnownTokens()
    mark = known.mark("a token")
    assert known.knows("a token", mark)
    assert not known.knows("another", mark)
    assert not known.knows("a token", b"")
    assert known.mark("\ud800")  # whatever a client sends


def test_marks_of_before_are_void() -> None:
    known = KnownTokens()
    mark = known.mark("a token")
    known.forget()
    assert not known.knows("a token", mark)


def test_marks_of_another_process_are_void() -> None:
    assert not KnownTokens().knows("a token", KnownTokens().mark("a token"))


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens whose signature was looked at."""
    tokens: list[str] = []

    def counted(text: str, rules: TokenRules, wall_ms: int) -> TokenClaims:
        tokens.append(text)
        return check(text, rules, wall_ms)

    monkeypatch.setattr(greeter, "check", counted)
    return tokens


async def cut_off(world: World, good: str) -> MemoryClient:
    client = world.client("node-1")
    assert (await client.hello(token=good))[0] == "welcome"
    client.end.drop()
    return client


async def back(world: World, client: MemoryClient, good: str) -> MemoryClient:
    """The client's next connection, whose hello is answered."""
    assert client.welcome is not None
    again = world.client("node-1")
    again.seen.append(await again.hello(token=good, resume=client.welcome.resume))
    return again


@pytest.mark.virtual_time
async def test_the_token_of_before_is_not_checked_again(checked: list[str]) -> None:
    async with gateways() as world:
        good = token("p")
        again = await back(world, await cut_off(world, good), good)
        assert again.seen[0][7] is True
        assert checked == [good]
        left_ms = again.seen[0][12]
        assert 0 < left_ms <= 60_000 + 1000 * world.nodes["node-1"].gateway.token_rules.skew_s


@pytest.mark.virtual_time
async def test_another_token_is_checked(checked: list[str]) -> None:
    async with gateways() as world:
        client = await cut_off(world, token("p"))
        for other, accepted in ((token("p", ttl_s=30.0), "welcome"), ("no token", "error"), (token("q"), "welcome")):
            again = await back(world, client, other)
            assert again.seen[0][0] == accepted
            assert checked[-1] == other
        assert again.seen[0][7] is False  # somebody else's session


@pytest.mark.virtual_time
async def test_a_token_that_has_expired_meanwhile_is_refused(checked: list[str]) -> None:
    async with gateways(gateway={"resume_window_s": 600.0}) as world:
        good = token("p", ttl_s=5.0)
        client = await cut_off(world, good)
        await asyncio.sleep(200.0)
        again = await back(world, client, good)
        assert again.seen[0][:3] == ["error", 1, "token_expired"]
        assert await again.closed() == CloseCode.TOKEN_EXPIRED


@pytest.mark.virtual_time
async def test_other_conditions_are_asked_of_the_token_of_before(checked: list[str]) -> None:
    async with gateways() as world:
        good = token("p")
        client = await cut_off(world, good)
        gateway = world.nodes["node-1"].gateway
        assert not gateway.use_token_rules(own_rules(KEY))  # the same ones, read again
        assert (await back(world, client, good)).seen[0][7] is True
        assert len(checked) == 1
        assert gateway.use_token_rules(own_rules(b"quite another key, just as long."))
        assert (await back(world, client, good)).seen[0][0] == "error"
        assert len(checked) == 2

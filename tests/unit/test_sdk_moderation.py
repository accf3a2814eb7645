"""The SDK's face of moderation: commands of a service, and what a subject is told."""

import pytest

import garrison
from garrison.errors import BadInput, Banned, Rejected, Revoked, SessionClosed
from garrison.messages import ModerationGet
from garrison.moderation import FOR_GOOD
from tests.support.sdk import FAST, Talk, scripted

STANDING = ["standing", 0, "ann", FOR_GOOD, "cheats", 0, "", 0, 3]


async def test_acts_are_commands_of_the_client() -> None:
    said: list[list[object]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for _ in range(7):
            message = await talk.recv()
            said.append([message[0], *message[3:]] if message[0] != "moderation.get" else message[:1] + message[2:])
            await talk.send("standing", message[1], *STANDING[2:])
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        moderation = garrison.Moderation(client)
        banned = await moderation.ban("ann", "cheats")
        assert (banned.banned_until_ms, banned.ban_reason, banned.act) == (FOR_GOOD, "cheats", 3)
        await moderation.unban("ann", "appealed")
        await moderation.mute("ann", for_s=1.5)
        await moderation.unmute("ann")
        await moderation.kick("ann", "asleep")
        await moderation.revoke("ann", before_ms=7)
        await moderation.standing("ann")
        for wrong in (0, -1, float("nan")):
            with pytest.raises(BadInput):
                await moderation.ban("ann", for_s=wrong)
    assert [line[:1] + line[2:] if line[0] != "moderation.get" else line for line in said] == [
        ["moderation.ban", "ann", "cheats", 0],
        ["moderation.unban", "ann", "appealed"],
        ["moderation.mute", "ann", "", 1500],
        ["moderation.unmute", "ann", ""],
        ["moderation.kick", "ann", "asleep"],
        ["moderation.revoke", "ann", "", 7],
        ["moderation.get", "ann"],
    ]
    assert ModerationGet("ann").subject == "ann"


async def test_a_banned_player_is_told_why_and_until_when() -> None:
    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "banned", "banned: team killing: twice", 60_000)
        await talk.close(4001)

    async with scripted(refuse) as server:
        with pytest.raises(Banned) as caught:
            async with garrison.connect(server.url, lambda: "tok", options=FAST):
                pass
        assert len(server.talks) == 1
    error = caught.value
    assert (error.code, error.reason, error.retry_after_s) == ("banned", "team killing: twice", 60.0)
    assert isinstance(error, Rejected)


@pytest.mark.parametrize("renewable", [True, False])
async def test_a_revoked_token_is_made_anew_where_it_can_be(renewable: bool) -> None:
    tokens = iter(("old", "new"))

    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "revoked", "this token was revoked", None)
        await talk.close(4001)

    async def take(talk: Talk) -> None:
        await talk.welcome()
        assert talk.hello[2] == "new"
        await talk.idle()

    async with scripted(refuse, take) as server:
        token = (lambda: next(tokens)) if renewable else "old"
        client = garrison.connect(server.url, token, options=FAST)
        if renewable:
            await client.open()
        else:
            with pytest.raises(Revoked):
                await client.open()
        await client.aclose()


@pytest.mark.parametrize(("code", "name"), [(4101, "banned"), (4102, "revoked"), (4103, "kicked"), (4012, "")])
async def test_a_session_that_moderation_ended_says_so(code: int, name: str) -> None:
    async def end(talk: Talk) -> None:
        await talk.welcome()
        await talk.close(code, "for this reason")

    async with scripted(end) as server:
        client = garrison.connect(server.url, lambda: "tok", options=FAST)
        with pytest.raises(SessionClosed) as caught:
            await client.open()
            await client.scoreboard("m1")
        await client.aclose()
        assert len(server.talks) == 1
    found = [word for word in ("banned", "revoked", "kicked") if getattr(caught.value, word)]
    assert (found, caught.value.reason) == ([name] if name else [], "for this reason")

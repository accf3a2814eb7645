"""Matches that are played, ended and found: over a client's connection and over the admin API of a real node."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import garrison
from garrison import errors
from garrison.host import Host
from garrison.messages import Kill, MatchOptions, Medal
from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(90)
Admin = Callable[..., Awaitable[Any]]
NAMES = (("ann", "player"), ("bob", "player"), ("eve", "player"), ("film", "host"))


async def play(match: str, password: str, ann: Any, bob: Any, eve: Any, film: Any) -> None:
    """A match that ann wins; a private one where there is a password."""
    options = MatchOptions(mode="slayer", map_name="Recharge", countdown_ms=0, private=bool(password))
    async with Host(film, match, options=options) as host:
        await host.create(password, {"playlist": "ranked"}, ["cup"])
        await ann.join(match, 0, password)
        await bob.join(match, 1, password)
        await host.start()
        await host.report(Kill(1_000, "ann", "bob"), Medal(1_000, "ann", "Ace"))
        await host.drain()
        with pytest.raises(errors.NotFound, match=r"match\.get tells of it"):
            await eve.match_page(match)
        await host.end(2_000)


async def names(client: garrison.Client, **filters: Any) -> list[str]:
    return [row.match async for page in client.history(limit=1, **filters) for row in page.matches]


async def clients_find_it(ann: garrison.Client, eve: garrison.Client) -> None:
    filters = {"opponent": "bob", "mode": "slayer", "map_name": "Recharge", "tags": ["cup"], "result": "won"}

    async def found() -> bool:
        return await names(ann, player="ann", **filters) == ["closed", "open"]

    async def counted() -> bool:
        return [line.played_ms for line in (await ann.match_page("closed")).lines] == [2_000, 2_000]

    await until(found)
    assert await names(eve, player="ann", properties={"playlist": "ranked"}) == ["open"], "one is private"
    with pytest.raises(errors.BadInput, match="property 'colour'"):
        await names(ann, properties={"colour": "red"})
    with pytest.raises(errors.Forbidden):
        await eve.match_page("closed")
    await until(counted)
    page = await ann.match_page("closed")
    assert [(line.player, line.result, line.kills) for line in page.lines] == [("ann", "won", 1), ("bob", "lost", 0)]
    assert [(medal.medal, medal.earned) for medal in page.lines[0].named_medals] == [("Ace", 1)]
    assert page.lines[0].mu > 0 > page.lines[1].mu and page.private and page.rating_group == "slayer"


async def operators_find_it(admin: Admin, mark: str) -> None:
    async def all_told() -> bool:
        return bool(await admin("waiting-results") == {"rows": []})

    await until(all_told)
    career = await admin("players/ann/career", mode="slayer")
    assert [(line["matches"], line["wins"], line["kills"]) for line in career["lines"]] == [(2, 2, 2)]
    assert [(medal["medal"], medal["earned"]) for medal in career["medals"]] == [("Ace", 2)]
    filters = {"player": "ann", "property": "playlist=ranked", "tag": "cup", "limit": 1}
    listed = await admin("match-history", **filters)
    assert [(row["match"], row["own"]["result"]) for row in listed["matches"]] == [("closed", "won")]
    more = await admin("match-history", **filters, cursor=listed["next"])
    assert [row["match"] for row in more["matches"]] == ["open"] and more["next"] is None
    assert len((await admin("players/bob/history", result="lost"))["matches"]) == 2
    told = await admin("matches/closed/page")
    assert told["mark"] == mark and told["lines"][0]["named_medals"] == [{"medal": "Ace", "earned": 1}]
    refused = [await admin("match-history", **{name: "x"}) for name in ("mode", "property", "cursor", "colour")]
    assert refused == [400] * 4
    assert await admin("matches/nothing/page") == await admin("players/nobody/career") == 404


async def test_matches_that_are_over_are_found_and_told(tmp_path: Path) -> None:
    nodes = LocalCluster(Home(tmp_path), 1, 0, [])
    try:
        await nodes.prepare("history")
        await nodes.start(lambda text: None)
        token = token_maker(read_settings(nodes.home.config))
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(garrison.connect(nodes.gateways[0], token(name, role)))
                for name, role in NAMES
            ]
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))

            async def admin(path: str, **params: Any) -> Any:
                headers = {"authorization": f"Bearer {nodes.home.admin_token}"}
                answer = await http.get(
                    f"{nodes.nodes[0].ready['admin_url']}/api/v1/{path}", params=params, headers=headers
                )
                return answer.json() if answer.status_code == 200 else answer.status_code

            ann, _, eve, _ = clients
            await play("open", "", *clients)
            await play("closed", "hunter2", *clients)
            await clients_find_it(ann, eve)

            async def both_count() -> bool:
                career = await ann.career("ann", mode="slayer")
                return [(line.matches, line.wins) for line in career.lines] == [(2, 2)]

            await until(both_count)
            await operators_find_it(admin, (await ann.match_page("closed")).mark)
    finally:
        await nodes.stop()

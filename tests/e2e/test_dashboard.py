"""The dashboard in a real Chromium, over several nodes' real admin servers.

What a person must see: every node, who is missing, what happens when a node dies (also the one
that the page came from), live scoreboards and a kill feed; and nothing that a player's chosen
name could do to the page.
"""

import random
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from game.messages import Ended, Kill, Medal
from game.party.place import NO_PARTY, joined
from game.player.messages import PresenceField, RichPresence
from game.player.pictures import Party, Said
from game.player.state import PlayerState
from server.runtime.troubles import Trouble
from tests.support.admin import TOKEN, PlayedMatch, TestCluster
from tests.support.chromium import Page, browser, chromium_or_skip

pytestmark = pytest.mark.browser
KILL_SHOWS_S = 3.0
RUDE = "<img src=x onerror=document.title='taken'>"

NODES = "[...document.querySelectorAll('main table')][0].tBodies[0].rows"
STATE = "Object.fromEntries([...{rows}].map((row) => [row.cells[0].children[1].textContent, row.cells[1].textContent]))"
STATES = STATE.format(rows=NODES)


@pytest.fixture
async def cluster() -> AsyncIterator[TestCluster]:
    chromium_or_skip()
    async with TestCluster(3) as nodes:
        for number, node in enumerate(nodes.nodes.values(), 1):
            metrics = node.system.metrics
            metrics.sessions, metrics.activations, metrics.loop_lag_last_seconds = 10 * number, 30 * number, 0.002
            node.admin.own.sampler.sample()
        yield nodes


@pytest.fixture
async def page(cluster: TestCluster) -> AsyncIterator[Page]:
    async with browser() as tab:
        yield tab


async def open_page(page: Page, cluster: TestCluster, node: str = "node-1") -> None:
    await page.open(f"{cluster.nodes[node].admin.url}/#token={TOKEN}")
    await page.until(f"{NODES}.length === {len(cluster.view.members)}")


async def test_the_overview_shows_the_cluster(page: Page, cluster: TestCluster) -> None:
    await open_page(page, cluster)
    states = await page.until(f"Object.keys({STATES}).length === 3 && {STATES}")
    assert states == {"node-1": "up", "node-2": "up", "node-3": "up"}
    assert await page.until("document.querySelector('.tiles').innerText.includes('3 of 3')")
    assert await page.evaluate("[...document.querySelectorAll('.tile dd')][1].innerText") == "60"
    shown = "document.querySelector('.ring canvas').getAttribute('aria-label')"
    assert "node-3" in await page.until(f"{shown}.includes('%') && {shown}")
    await page.until("document.querySelectorAll('.chart polygon, .chart polyline').length >= 6")
    assert await page.evaluate("document.title") == "Overview · Garrison"
    await page.size(390, 844)
    broken = f"[...{NODES}].map((row) => row.cells[0].children[1].getClientRects().length)"
    assert await page.evaluate(broken) == [1, 1, 1]  # no name is broken on a phone
    assert page.errors == []


async def test_the_token_leaves_the_address_and_nothing_is_fetched_from_elsewhere(
    page: Page, cluster: TestCluster
) -> None:
    await open_page(page, cluster)
    assert TOKEN not in await page.evaluate("location.href")
    used = await page.evaluate("performance.getEntriesByType('resource').map((one) => new URL(one.name).origin)")
    assert set(used) == {cluster.nodes["node-1"].admin.url}
    await page.evaluate("location.reload()")
    await page.until("document.getElementById('link').dataset.state === 'live'")  # the tab remembers


async def test_the_page_moves_on_when_its_own_node_dies(page: Page, cluster: TestCluster) -> None:
    await open_page(page, cluster, "node-2")
    await page.until("document.getElementById('link-text').textContent === 'live from node-2'")
    await cluster.kill("node-2")
    await page.until("document.getElementById('link-text').textContent !== 'live from node-2'", KILL_SHOWS_S)
    banner = await page.evaluate("document.getElementById('banner').innerText")
    assert "node-2 stopped answering" in banner and "moved on to node-" in banner
    assert await page.evaluate("document.getElementById('banner').checkVisibility()")
    await page.until(f"{STATES}['node-2'] === 'no answer'", KILL_SHOWS_S)
    cluster.lose("node-2")
    await page.until(f"{STATES}['node-2'].startsWith('lost')")
    await page.until("document.querySelector('.events').innerText.includes('node-2 was lost')")
    await page.evaluate("location.hash = '#/matches'")  # the application's page goes on, too
    await page.until("document.querySelector('main').innerText.includes('No match is being played')")
    await page.evaluate("document.querySelector('#banner button').click()")
    assert await page.evaluate("document.getElementById('banner').hidden")


async def test_missing_suspect_and_stopped_nodes_are_marked(page: Page, cluster: TestCluster) -> None:
    await open_page(page, cluster)
    cluster.silent.add("node-3")
    await page.until(f"{STATES}['node-3'] === 'no answer'", KILL_SHOWS_S)
    await page.until("document.querySelector('.tiles').innerText.includes('without node-3')")
    cluster.silent.clear()
    await page.until(f"{STATES}['node-3'] === 'up'")
    first, second, third = (node.member() for node in cluster.nodes.values())
    cluster.members(first, second, cluster.nodes["node-3"].member("leaving"))
    await page.until(f"{STATES}['node-3'] === 'leaving'")
    cluster.members(first, second)
    await page.until(f"{STATES}['node-3'].startsWith('stopped')")
    cluster.members(first, second, third)
    await page.until(f"{STATES}['node-3'] === 'up'")
    cluster.nodes["node-2"].reason = "leaving"
    await page.until(f"{STATES}['node-2'] === 'not ready'")
    assert page.errors == []


AWAY = "database unreachable: refused: postgresql://garrison:***@db.internal/garrison; 12 changed states wait for it"
TWIN = "node-3 has this node's address, ws://one: set gateway.advertise_url for each node"


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
async def test_troubles_are_told_on_every_page_f36(page: Page, cluster: TestCluster, width: int, dark: bool) -> None:
    """The banner says what is away, since when and for whom, and goes when it is back."""
    await page.size(width, 900)
    await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}", dark=dark)
    await page.until(f"{NODES}.length === 3")
    await page.until("document.getElementById('troubles').hidden")
    for node in cluster.nodes.values():
        node.troubles, node.reason = [Trouble("database", AWAY, 1_700_000_000_000)], AWAY
    cluster.nodes["node-2"].troubles.append(Trouble("address", TWIN, 1_700_000_001_000))
    box = "document.getElementById('troubles')"
    await page.until(f"!{box}.hidden && {box}.querySelectorAll('li').length === 2")
    said = await page.evaluate(f"{box}.innerText")
    assert "node-1, node-2, node-3, since" in said and AWAY in said and "node-2, since" in said and TWIN in said
    assert await page.evaluate(f"{box}.querySelector('time').innerText.length >= 8")
    await page.until("document.querySelector('.tiles').innerText.includes('0 of 3')")
    await page.until("document.querySelector('.events').innerText.includes('database unreachable')")
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert await page.evaluate(fits) and await page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
    await page.evaluate("location.hash = '#/sessions'")
    assert not await page.evaluate(f"{box}.hidden")
    await page.evaluate("location.hash = '#/'")
    for node in cluster.nodes.values():
        node.troubles, node.reason = [], ""
    await page.until(f"{box}.hidden")
    await page.until("document.querySelector('.events').innerText.includes('over: database unreachable')")
    assert page.errors == []


async def test_a_drain_is_watched(page: Page, cluster: TestCluster) -> None:
    await open_page(page, cluster)
    for node in cluster.nodes.values():
        node.system.metrics.misplaced = 0
    second, metrics = cluster.nodes["node-2"], cluster.nodes["node-2"].system.metrics
    metrics.misplaced, metrics.migrations_total, metrics.sessions_handed_over_total = 1_204, 96, 3
    metrics.migration_pause_seconds.observe(0.002)
    cluster.members(*[node.member("leaving" if node is second else "up") for node in cluster.nodes.values()])
    await page.until("document.querySelector('main tbody').innerText.includes('1,204')")
    await page.evaluate("location.hash = '#/moves'")
    row = "[...document.querySelectorAll('main tbody tr')].find((row) => row.innerText.startsWith('node-2')).innerText"
    shown = await page.until(f"{row}.includes('1,204') && {row}")
    assert shown.split("\t")[1:] == ["leaving", "1,204", "60", "20", "96", "2.0 ms, 99% under 2.5 ms", "0", "3"]
    text = "document.querySelector('main').innerText"
    await page.until(f"{text}.includes('1,204 activations and 20 sessions are still to move')")
    metrics.misplaced = 0
    await page.until(f"{text}.includes('60 activations and 20 sessions are still to move')")
    metrics.activations = 0
    await page.until(f"{text}.includes('20 sessions are still to move') && !{text}.includes('activations and')")
    metrics.activations = metrics.sessions = 0
    await page.until(f"{text}.includes('node-2 is empty: stop it')")
    cluster.members(*[node.member() for node in cluster.nodes.values()])
    await page.until(f"{text}.includes('everything is in its place')")
    assert page.errors == []


@pytest.mark.parametrize("width", [1100, 1300, 1440])
async def test_the_table_of_nodes_fits(page: Page, cluster: TestCluster, width: int) -> None:
    await page.size(width, 900)
    await open_page(page, cluster)
    await page.until(f"{NODES}[0].innerText.includes('MiB')")
    room, wanted = await page.evaluate(
        "(() => { const box = document.querySelector('main .scroll'); return [box.clientWidth, box.scrollWidth]; })()"
    )
    assert wanted <= room


async def test_no_node_answers_and_then_one_comes_back(page: Page, cluster: TestCluster) -> None:
    await open_page(page, cluster)
    port = int(cluster.nodes["node-1"].admin.url.rpartition(":")[2])
    for name in list(cluster.nodes):
        await cluster.kill(name)
    await page.until("document.getElementById('link').dataset.state === 'offline'")
    assert "do not answer" in await page.evaluate("document.getElementById('banner').innerText")
    await page.until("document.querySelector('main').classList.contains('stale')")
    async with TestCluster(1, port=port):
        await page.until("document.getElementById('link').dataset.state === 'live'")
        await page.until("document.getElementById('banner').hidden && !document.querySelector('main.stale')")


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
async def test_a_player_with_presence_devices_party_and_friends(
    page: Page, cluster: TestCluster, width: int, dark: bool
) -> None:
    rich = RichPresence("slayer", "Streets", join="m-1", fields=[PresenceField("clan", RUDE)])
    said = (Said("s-1", "busy", "In a fight", rich),)
    devices = [
        SimpleNamespace(session=session, kind=kind, client=client)
        for session, kind, client in (("s-1", "console", "halo/1"), ("s-2", "", "chat"))
    ]
    state = PlayerState(status="busy", match="m-1", in_party=joined(NO_PARTY, "p-1", 1, 1, True))
    ann = SimpleNamespace(key="ann", node="node-2", kind="player", state=state, said=said)
    ann.shown_devices, ann.shown_party = lambda: devices, lambda: Party(2, 4)
    row = {"display_name": RUDE, "status": "online", "last_seen_ms": 5_000, "match": "", "party": "", "friends": 17}
    cluster.stored["stored_players"] = [{"player": "ann", **row}]
    cluster.nodes["node-2"].system.actors["player"] = [ann]
    await page.size(width, 900)
    await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}", dark=dark)
    await page.until("document.querySelectorAll('nav a').length > 3")
    await page.evaluate("[...document.querySelectorAll('nav a')].find((a) => a.textContent === 'Players').click()")
    await page.until("document.querySelectorAll('.players tbody tr').length === 1")
    await page.evaluate("document.querySelector('.players tbody a').click()")
    plain = "(one) => one.textContent.replace(/[\u2068\u2069]/g, '')"
    facts = f"[...document.querySelectorAll('.presence > div')].map((line) => [...line.children].map({plain}))"
    shown = await page.until(f"document.querySelector('.presence dd') && {facts}")
    assert dict(shown) == {
        "Says": "In a fight", "Plays": "slayer on Streets", "To follow": "m-1", "clan": RUDE, "Match": "m-1",
        "Party": "p-1, 2 of 4", "Friends": "17", "Display name": RUDE, "Seen last": "1970-01-01 00:00:05 UTC",
        "In memory": "on node-2",
    }  # fmt: skip
    assert await page.evaluate("document.querySelector('header .pill').textContent") == "busy"
    lines = (
        "[...document.querySelectorAll('main tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert await page.evaluate(lines) == [["console", "halo/1", "busy", "In a fight"], ["not said", "chat", "", ""]]
    assert await page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
    cluster.nodes["node-2"].system.actors["player"] = []
    cluster.stored["stored_players"] = [{"player": "ann", **row, "status": "offline"}]
    await page.until("document.querySelector('main').innerText.includes('No device is connected')")
    assert await page.evaluate("document.querySelector('header .pill').textContent") == "offline"
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.errors == []


async def test_live_matches_and_a_kill_feed(page: Page, cluster: TestCluster) -> None:
    host = cluster.nodes["node-2"].system
    match = PlayedMatch("m:1", host.me, teams=2, players=["ann", "bob", "cat", "dan"])
    for time_ms in range(1_000, 30_000, 1_000):
        match.play(random.Random(time_ms), time_ms)
    host.actors["match"] = [match]
    await open_page(page, cluster)
    await page.evaluate("[...document.querySelectorAll('nav a')].find((a) => a.textContent === 'Matches').click()")
    await page.until("document.querySelectorAll('.match tbody tr').length === 4")
    assert await page.evaluate(
        "[...document.querySelectorAll('.match .scores b')].map((b) => Number(b.innerText))"
    ) == (list(match.state.team_scores))

    await page.evaluate("document.querySelector('.match h3 a').click()")
    await page.until("document.querySelectorAll('.feed li').length > 20")
    match.happens(Kill(61_000, "dan", "ann"))
    newest = "document.querySelector('.feed li').innerText"
    first = await page.until(f"{newest}.includes('dan killed ann') && {newest}")
    assert first.startswith("1:01")
    match.happens(Medal(62_000, "bob", RUDE))
    await page.until("document.querySelector('.feed li').innerText.includes('onerror')")
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0
    assert await page.evaluate("document.title") == "Matches · Garrison"

    match.happens(Ended(63_000, "host_ended", "team:0", 1_700_000_063_000))
    await page.until("document.querySelector('main').innerText.includes('won by team 0')")
    host.actors["match"] = []
    line = {
        "team": 0,
        "present": True,
        "kills": 4711,
        "deaths": 0,
        "assists": 0,
        "medals": 0,
        "objectives": 0,
        "score": 9,
    }
    cluster.stored["match_players"] = [{"player": "ann", "name": RUDE, **line}]
    await page.until("document.querySelector('main').innerText.includes('garrison replay m:1')")
    await page.until("document.querySelector('main').innerText.includes('4711')")  # the scoreboard, from the store
    named = "[...document.querySelectorAll('.board th[scope=row]')].map((cell) => [cell.innerText, cell.title])"
    ((name, key),) = await page.evaluate(named)
    assert RUDE in name and key == "ann, team 0", "its display name; the key is a tooltip"
    over = {"match": "m:1", "phase": "ended", "mode": "slayer", "map_name": RUDE, "host": "host-1", "players": 4}
    over |= {"team_scores": [50, 4242], "time_ms": 63_000, "winner": "team:1", "events": 77}
    cluster.stored["stored_matches"] = [over]
    await page.evaluate("document.querySelector('main a').click()")
    await page.until("document.querySelector('.ended').innerText.includes('50 : 4242')")
    assert "team 1" in await page.evaluate("document.querySelector('.ended').innerText")
    await look_for_ended_matches(page, cluster)
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0
    assert page.errors == []


async def look_for_ended_matches(page: Page, cluster: TestCluster) -> None:
    """Filters and pages of the list of matches that are over, and a question that cannot be."""
    row = dict.fromkeys(("source", "end_reason", "winner"), "") | dict.fromkeys(
        ("created_wall_ms", "started_wall_ms"), 1
    )
    row |= {
        "mode": "slayer",
        "map_name": RUDE,
        "ended_wall_ms": 9,
        "time_ms": 5,
        "team_scores": [1],
        "player_count": 777,
    }
    found = [{**row, "match": f"cup-{number:02}", "properties": None, "tags": [["cup"]]} for number in range(25)]
    cluster.stored["match_history"] = found
    say = "(([name, value]) => {{ const input = document.querySelector(`.ended [name=${{name}}]`); input.value = value;"
    say += " input.dispatchEvent(new Event('change')); }})({0})"
    await page.evaluate(say.format("['tag', 'cup']"))
    first = "document.querySelector('.ended tbody').innerText"
    await page.until(f"{first}.includes('777') && document.querySelectorAll('.ended tbody tr').length === 20")
    assert "50 : 4242" not in await page.evaluate(first)
    cluster.stored["match_history"] = found[20:]
    await page.evaluate(
        "[...document.querySelectorAll('.ended button')].find((b) => b.innerText === 'Further').click()"
    )
    await page.until("document.querySelectorAll('.ended tbody tr').length === 5")
    await page.evaluate(say.format("['property', 'x']"))
    await page.until("document.querySelector('.ended .note').innerText.includes('name=value')")
    assert all("400" in error for error in page.errors), "refused, and shown"
    page.errors.clear()
    await page.evaluate(say.format("['property', '']"))
    await page.evaluate(say.format("['tag', '']"))
    await page.until(f"{first}.includes('50 : 4242')")


async def test_texts_of_clients_turn_round_no_word_of_the_page_and_stay_in_their_place(
    page: Page, cluster: TestCluster
) -> None:
    """F29, F66: as earlier versions have stored them."""
    host = cluster.nodes["node-2"].system
    match = PlayedMatch("m:1", host.me, teams=2, players=["ann", "bob"])
    options = replace(match.state.options, map_name="\u202eevil\u2069 \u05d0\u05d1" + "e" + "\u0301" * 64)
    match.state = replace(match.state, options=options)
    host.actors["match"] = [match]
    await open_page(page, cluster)
    await page.evaluate("[...document.querySelectorAll('nav a')].find((a) => a.textContent === 'Matches').click()")
    facts = await page.until("document.querySelector('.match .facts')?.children[0].textContent")
    assert facts.startswith("slayer on \u2068\\u202eevil\\u2069 \u05d0\u05d1e\u0301") and facts.endswith("\u2069")
    style = "getComputedStyle(document.querySelector('.match .facts'))"
    assert await page.evaluate(f"[{style}.overflowY, {style}.unicodeBidi]") == ["clip", "isolate"]
    await page.evaluate("document.querySelector('.match h3 a').click()")
    await page.until("document.querySelectorAll('.feed li').length >= 2")
    match.happens(Medal(62_000, "bob", "\u202egold"))
    assert await page.until("document.querySelector('.feed li .text').textContent.includes('gold')")
    assert await page.evaluate("document.querySelector('.feed li .text').textContent") == (
        "bob earned \u2068\\u202egold\u2069"
    )
    assert page.errors == []


async def test_a_wrong_token_asks_for_the_right_one(page: Page, cluster: TestCluster) -> None:
    await page.open(f"{cluster.nodes['node-1'].admin.url}/#token=wrong")
    await page.until("document.getElementById('login').checkVisibility()")
    assert "refused" in await page.evaluate("document.getElementById('login').innerText")
    await page.evaluate(
        f"document.getElementById('login-token').value = '{TOKEN}';document.querySelector('#login-form button').click()"
    )
    await page.until("document.getElementById('link').dataset.state === 'live'")
    assert await page.evaluate("document.getElementById('login').hidden")


async def test_sessions_are_shown_paged_and_found(page: Page, cluster: TestCluster) -> None:
    cluster.nodes["node-3"].sessions = [
        {"session": f"s{n}", "subject": RUDE if n == 0 else f"spartan-{n}", "role": "player", "state": "attached"}
        for n in range(130)
    ]
    await open_page(page, cluster)
    await page.evaluate("location.hash = '#/sessions'")
    rows = "document.querySelectorAll('main tbody tr')"
    await page.until(f"{rows}.length === 100")
    assert await page.evaluate(f"{rows}[0].cells[0].textContent") == RUDE
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0
    await page.evaluate("[...document.querySelectorAll('main button')].find((b) => b.textContent === 'Next').click()")
    await page.until(f"{rows}.length === 30")
    await page.evaluate(
        "const box = document.querySelector('main input'); box.value = 'spartan-7';"
        "box.dispatchEvent(new Event('input'))"
    )
    await page.until(f"{rows}.length === 1 && {rows}[0].cells[0].textContent === 'spartan-7'")
    await page.evaluate("location.hash = '#/store'")
    await page.until("document.querySelector('main').innerText.includes('Mean flush')")
    assert page.errors == []


async def test_a_narrow_window_needs_no_sideways_scrolling(page: Page, cluster: TestCluster) -> None:
    await page.size(390, 844)
    await open_page(page, cluster)
    await page.until("document.querySelectorAll('.chart polygon').length > 0")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390

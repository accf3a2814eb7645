"""The theatre in a real Chromium: a stored match on a desktop and on a phone, by pointer, by keys and by a link; a live
one that goes over into its replay; a damaged one; and what `garrison theatre` serves of an imported log."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from game import replay
from game.match.events import Named
from game.messages import Kill, Medal, Objective
from tests.support.admin import TOKEN, TestCluster
from tests.support.chromium import Page, browser, chromium_or_skip
from tests.support.databases import fresh
from tests.support.foreign_logs import LOGS
from tests.support.matches import Played
from tests.support.recorded_logs import busy_match

pytestmark = pytest.mark.browser
MATCH = "ranked:42.b"
RUDE = "<img src=x onerror=document.title='taken'>"
CLOCK = "document.querySelector('.stage .clock').textContent"
SETTLED = "document.querySelector('main').dataset.seeking === 'no'"
SPEED = "document.querySelector('.controls select')"
SLIDER = "document.querySelector('.scrub')"
PLAIN = "(node) => node.textContent.replace(/[\u2068\u2069]/g, '')"


@pytest.fixture
async def cluster() -> AsyncIterator[TestCluster]:
    chromium_or_skip()
    async with TestCluster(1) as nodes:
        yield nodes


@pytest.fixture
async def page(cluster: TestCluster) -> AsyncIterator[Page]:
    async with browser() as tab:
        yield tab


def with_names(match: Played) -> Played:
    match.emit([Named(match.state.time_ms, "p0", RUDE), Named(match.state.time_ms, "p1", "Zoë")])
    return match


async def shown(page: Page, cluster: TestCluster, match: str = MATCH, more: str = "", dark: bool = False) -> None:
    """Open the theatre of a match, by a link with a token."""
    url = next(iter(cluster.nodes.values())).admin.url
    name = await page.evaluate(f"encodeURIComponent({json.dumps(match)})")
    await page.open("about:blank")
    await page.open(f"{url}/#token={TOKEN}&page=/matches/{name}/theatre{more}", dark=dark)
    await page.until(f"{SETTLED} && document.querySelectorAll('.scrub path').length > 3")


async def key(page: Page, name: str, code: str = "", text: str = "") -> None:
    what = {"key": name, "code": code or name, **({"text": text} if text else {})}
    await page.call("Input.dispatchKeyEvent", type="keyDown", **what)
    await page.call("Input.dispatchKeyEvent", type="keyUp", **what)


async def click_at(page: Page, share: float) -> None:
    """Click on the timeline, `share` of the match from its beginning."""
    box = await page.evaluate(
        f"(() => {{ const b = {SLIDER}.getBoundingClientRect(); return [b.left, b.top, b.width]; }})()"
    )
    x, y = box[0] + 8 + share * (box[2] - 16), box[1] + 60
    for kind in ("mousePressed", "mouseReleased"):
        await page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


async def board(page: Page) -> list[list[str]]:
    rows = "[...document.querySelectorAll('.board.theatre tbody tr')]"
    found: list[list[str]] = await page.evaluate(f"{rows}.map((row) => [...row.cells].map({PLAIN}))")
    return found


def expected(match: Played, ms: int) -> list[list[str]]:
    state = replay.at(match.stored(), ms=ms).state
    rows = []
    for line in replay.board.lines(state):
        name = replay._name(state, line.player)
        numbers = (line.score, line.kills, line.deaths, line.assists, line.medals, line.objectives)
        rows.append([name, *map(str, numbers)])
    return rows


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
async def test_a_stored_match_by_pointer_keys_and_link(
    page: Page, cluster: TestCluster, width: int, dark: bool
) -> None:
    match = with_names(busy_match()).end(310_000)
    cluster.logs.put(MATCH, match.stored())
    row = {"match": MATCH, "phase": "ended", "mode": "slayer", "map_name": "", "host": "h", "players": 6, "events": 300}
    row |= {"team_scores": [1, 2], "time_ms": 310_000, "created_wall_ms": 1, "ended_wall_ms": 2, "winner": "team:1"}
    cluster.stored["stored_matches"] = [{**row, "end_reason": "score"}]
    await page.size(width, 900)
    await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}", dark=dark)
    await page.until("document.querySelectorAll('nav a').length > 3")
    await page.evaluate("location.hash = '#/matches'")
    await page.until("!!document.querySelector('.ended tbody a')")
    await page.evaluate("document.querySelector('.ended tbody a').click()")
    await page.until(f"{SETTLED} && document.querySelectorAll('.names button').length === 6")
    assert await page.evaluate(CLOCK) == "0:00"

    await click_at(page, 0.5)  # 155 s
    await page.until(f"{SETTLED} && ['2:34', '2:35'].includes({CLOCK})")
    ms = await page.evaluate(f"Number({SLIDER}.getAttribute('aria-valuenow'))")
    assert abs(ms - 155_000) < 2_000 and await board(page) == expected(match, ms)
    said = await page.evaluate(f"{SLIDER}.getAttribute('aria-valuetext')")
    assert said.startswith("2 minutes 3") and "score" in said

    await key(page, "ArrowRight")
    await page.until(f"{SETTLED} && Number({SLIDER}.getAttribute('aria-valuenow')) === {ms + 5_000}")
    assert await board(page) == expected(match, ms + 5_000)
    await key(page, "Home")
    await page.until(f"{SETTLED} && {CLOCK} === '0:00'")
    await key(page, ".")
    first_ms = next(one.event.time_ms for one in match.records if isinstance(one.event, Kill | Medal | Objective))
    await page.until(f"{SETTLED} && {CLOCK} === '0:{first_ms // 1000:02d}'")
    await key(page, "End")
    await page.until(f"{SETTLED} && {CLOCK} === '5:10' && document.querySelector('.play').textContent === 'Again'")
    assert await board(page) == expected(match, 310_000)
    assert RUDE in await page.evaluate("document.querySelector('.names').textContent")

    await page.evaluate(f"(() => {{ {SPEED}.value = '64'; {SPEED}.dispatchEvent(new Event('change')); }})()")
    await page.evaluate(f"{SLIDER}.focus()")
    await key(page, " ", "Space", " ")
    await page.until(f"{SETTLED} && {CLOCK} !== '5:10' && document.querySelector('.play').textContent === 'Pause'")
    await page.until("document.querySelector('.play').textContent === 'Again'", 15)
    assert await page.evaluate(CLOCK) == "5:10" and await board(page) == expected(match, 310_000), "played to its end"

    await page.evaluate("document.querySelectorAll('.names button')[1].click()")
    await page.until("document.querySelectorAll('.names [aria-pressed=true], tr.followed').length === 2")
    await page.evaluate("document.querySelector('.copy').click()")
    await page.until(
        "document.querySelector('.copy').textContent === 'Copied' || !document.querySelector('.link-text').hidden"
    )
    if not await page.evaluate("document.querySelector('.link-text').hidden"):
        assert await page.evaluate("document.querySelector('.link-text').value === location.href")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate("document.title") == "Matches · Garrison"
    assert page.errors == [] and await page.violations() == []


async def test_a_link_leads_to_a_moment_and_a_player(page: Page, cluster: TestCluster) -> None:
    match = with_names(busy_match())
    cluster.logs.put(MATCH, match.end(310_000).stored())
    await shown(page, cluster, more="?t=123456&p=p3")
    assert await page.evaluate(CLOCK) == "2:03" and await board(page) == expected(match, 123_456)
    followed = await page.evaluate("document.querySelector('.names [aria-pressed=true]').textContent")
    assert followed == "p3" and TOKEN not in await page.evaluate("location.href")
    assert await page.evaluate("[...document.querySelectorAll('.controls select')][1].value") == "p3"
    await page.evaluate("document.querySelector('.feed .at').click()")  # the newest line of the feed: the event before
    await page.until(f"{SETTLED} && {CLOCK} === '2:03' && location.hash.includes('t=123000')")
    await shown(page, cluster, more="?t=99999999999")
    assert await page.evaluate(CLOCK) == "5:10", "a moment after the end is the end"


async def test_motion_is_reduced_for_who_asks_for_it(page: Page, cluster: TestCluster) -> None:
    cluster.logs.put(MATCH, busy_match().end(310_000).stored())
    await shown(page, cluster)
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    watch = "new MutationObserver((some) => (window.moves += some.length))"
    moves = f"(window.moves = 0, {watch}.observe(document.querySelector('.playhead'), {{ attributes: true }}))"
    await page.evaluate("document.querySelector('.play').click()")
    await asyncio.sleep(0.6)
    await page.evaluate(moves)
    began = await page.evaluate("performance.now()")
    await page.until("window.moves >= 2")
    assert (await page.evaluate("performance.now()")) - began > 450, "it hops, and does not glide"


async def test_a_live_match_goes_over_into_its_replay(page: Page, cluster: TestCluster) -> None:
    match = busy_match(60)
    cluster.logs.put("now", match.stored())
    await shown(page, cluster, "now")
    await page.until("document.querySelector('.stage .pill').textContent === 'live'")
    assert await page.evaluate(CLOCK) == "1:00" and await page.evaluate("document.querySelector('.to-live').hidden")
    await page.evaluate("window.stayed = true")
    match.report(Kill(63_000, "p0", "p1"))
    cluster.logs.put("now", match.stored())
    await page.until(f"{CLOCK} === '1:03'", 12)
    assert await board(page) == expected(match, 63_000)
    await page.evaluate(f"{SLIDER}.focus()")
    await key(page, "Home")
    await page.until(f"{SETTLED} && document.querySelector('.stage .pill').textContent === 'live, behind'")
    await page.evaluate("document.querySelector('.to-live').click()")
    await page.until(f"{SETTLED} && {CLOCK} === '1:03'")
    match.report(Kill(64_000, "p2", "p1")).end(66_000)
    cluster.logs.put("now", match.stored())
    await page.until("document.querySelector('.stage .pill').textContent === 'replay'", 12)
    await page.until(f"{CLOCK} === '1:06' && document.querySelector('.play').textContent === 'Again'", 12)
    assert await board(page) == expected(match, 66_000)
    assert "over (host ended)" in await page.evaluate("document.querySelector('.stage .facts').textContent")
    assert await page.evaluate("window.stayed") and page.errors == []


async def test_damage_is_told_and_nothing_of_an_unknown_match(page: Page, cluster: TestCluster) -> None:
    log = busy_match().end(310_000).stored(64)
    spoilt = bytearray(log.chunks[2].data)
    spoilt[-5] ^= 1
    log.chunks[2] = type(log.chunks[2])(log.chunks[2].first_seq, log.chunks[2].last_seq, True, bytes(spoilt))
    cluster.logs.put("bad", log)
    await shown(page, cluster, "bad")
    assert "Damaged: events 129 to 192 cannot be read" in await page.evaluate(
        "document.querySelector('.notes').textContent"
    )
    assert await page.evaluate("document.querySelectorAll('.scrub .gap').length") == 1
    url = cluster.nodes["node-1"].admin.url
    await page.open("about:blank")
    await page.open(f"{url}/#token={TOKEN}&page=/matches/nobody/theatre")
    await page.until("document.querySelector('main').innerText.includes('There is no match nobody')")


async def test_the_command_shows_an_imported_log_without_a_cluster(tmp_path: Path) -> None:
    chromium_or_skip()
    database = fresh("sqlite", tmp_path)
    log = tmp_path / "tf2.log"
    log.write_bytes(LOGS["tf2"])
    garrison = (sys.executable, "-m", "server.main")
    store = ("--set", f"store.url={database.url}")
    imported = await asyncio.create_subprocess_exec(
        *garrison, "import", str(log), *store, stdout=asyncio.subprocess.PIPE
    )
    said = (await imported.communicate())[0].decode()
    words = said.strip().splitlines()[-1].split()
    assert words[-2] == "theatre", said
    served = await asyncio.create_subprocess_exec(*garrison, *words[-2:], *store, stdout=asyncio.subprocess.PIPE)
    try:
        assert served.stdout is not None
        line = (await asyncio.wait_for(served.stdout.readline(), 20)).decode()
        async with browser() as page:
            await page.open(line.partition(": ")[2].strip())
            await page.until(f"{SETTLED} && document.querySelectorAll('.names button').length === 4")
            assert words[-1] in await page.evaluate("document.querySelector('.crumbs').textContent")
            navigation = await page.evaluate("[...document.querySelectorAll('nav a')].map((one) => one.textContent)")
            assert navigation == ["Matches", "Players", "Moderation"], "no pages about a cluster that is not there"
            assert page.errors == [] and await page.violations() == []
            key_of_one = await page.evaluate("document.querySelector('.names button').title.match(/[(](.*)[)]/)[1]")
            await page.evaluate(f"location.hash = '#/players/' + encodeURIComponent({json.dumps(key_of_one)})")
            await page.until("!!document.querySelector('.recent tbody a')")  # a player's recent matches
            await page.evaluate("document.querySelector('.recent tbody a').click()")
            await page.until(f"{SETTLED} && !!document.querySelector('.names [aria-pressed=true]')")
    finally:
        served.send_signal(signal.SIGINT)
        assert await served.wait() == 0

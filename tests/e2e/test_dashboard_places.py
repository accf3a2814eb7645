"""The dashboard where people put it: below a path, on IPv6, on a phone, in a browser that stands still (F35); and its
Content-Security-Policy, which every page keeps."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from server.runtime.troubles import Trouble
from tests.support.admin import APP, TOKEN, PlayedMatch, TestCluster
from tests.support.chromium import Page, browser, chromium_or_skip
from tests.support.path_proxy import below
from tests.unit.test_listening import needs_ipv6

pytestmark = pytest.mark.browser
PAGES = ("overview", "matches", "moderation", "sessions", "moves", "store")
LIVE = "document.getElementById('link').dataset.state === 'live'"
LONG = "W" * 64


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium_or_skip()
    async with browser() as tab:
        yield tab


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def walk(page: Page, *more: str) -> None:
    """Look at every page: each shows something, and none breaks the policy."""
    for name in (*PAGES, *more):
        await page.evaluate(f"location.hash = '#/{name}'")
        await page.until(
            f"document.querySelector('nav [aria-current]').getAttribute('href') === '#/{name.split('/')[0]}'"
        )
        await page.until("document.querySelector('main').innerText.length > 20")
        assert await page.violations() == [], name
    assert page.errors == []


# ---- below a path ----


@pytest.mark.parametrize("takes_away", [True, False], ids=["a proxy that takes it away", "one that passes it on"])
async def test_dashboard_below_a_path(page: Page, takes_away: bool) -> None:
    """F35: with nothing at the root of the host; it moves on to another node below its own path."""
    setting: dict[str, Any] = {} if takes_away else {"base_path": "/ops/garrison"}
    async with TestCluster(2, **setting) as cluster:
        first, second = (urlsplit(node.admin.url).port or 0 for node in cluster.nodes.values())
        async with (
            below("/ops/garrison", first, takes_away=takes_away) as one,
            below("/ops/garrison", second, takes_away=takes_away) as two,
        ):
            cluster.nodes["node-1"].admin.url, cluster.nodes["node-2"].admin.url = one, two
            cluster.members(*[node.member() for node in cluster.nodes.values()])
            cluster.nodes["node-2"].system.actors["match"] = [PlayedMatch("m", cluster.nodes["node-2"].system.me)]
            if not takes_away:
                await page.open(one)  # without the slash
                await page.until("document.getElementById('login').checkVisibility()")
                assert await page.evaluate("location.pathname") == "/ops/garrison/"
            await page.open(f"{one}/#token={TOKEN}")
            await page.until(LIVE)
            assert await page.evaluate("location.pathname + location.hash") == "/ops/garrison/#/"
            await walk(page, "matches/m")
            used = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
            assert used and all(name.startswith(f"{one}/") for name in used)
            await cluster.kill("node-1")
            await page.until("document.getElementById('link-text').textContent === 'live from node-2'")


async def test_paths_are_answered_with_and_without_the_base(http: httpx.AsyncClient) -> None:
    async with TestCluster(1, base_path="/ops") as cluster:
        url, auth = cluster.nodes["node-1"].admin.url, {"authorization": f"Bearer {TOKEN}"}
        for base in (url, f"{url}/ops"):
            for path in ("/", "/healthz", "/metrics", "/pages.json", "/static/js/main.js", "/api/openapi.json"):
                assert (await http.get(base + path)).status_code == 200, path
            assert (await http.get(f"{base}/api/v1/stored-matches/a%2Fb", headers=auth)).status_code in (200, 404)
            assert (await http.get(f"{base}/api/v1/cluster")).status_code == 401
        for other in ("/opsx/healthz", "/ops/ops/healthz", "/OPS/healthz"):
            assert (await http.get(url + other)).status_code == 404, other


# ---- the policy ----

FORBIDDEN = {
    "an inline script": "document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))",
    "an inline style": "document.body.setAttribute('style', 'color: red')",
    "a text as a program": "setTimeout('1')",
    "a script of another host": (
        "document.body.append(Object.assign(document.createElement('script'), {src: 'http://example.invalid/a.js'}))"
    ),
    "a request to another host": "fetch('http://example.invalid/').catch(() => 0)",
    "a picture of another host": "document.body.append(Object.assign(new Image(), {src: 'http://example.invalid/'}))",
    "a frame": "document.body.append(Object.assign(document.createElement('iframe'), {src: location.href}))",
    "a form": (
        "(() => { const form = document.createElement('form'); form.action = 'http://example.invalid/';"
        " document.body.append(form); form.submit() })()"
    ),
}
STUDIO = Path(__file__).parents[1] / "support/tiny_studio/pages"


@asynccontextmanager
async def busy_cluster(count: int = 2) -> AsyncIterator[TestCluster]:
    """Something to see on every page, with names as long as names can be."""
    async with TestCluster(count) as cluster:
        node = list(cluster.nodes.values())[-1]
        node.sessions = [
            {
                "session": f"s{n}",
                "subject": LONG,
                "role": "player",
                "state": "attached",
                "client": LONG,
                "node": "node-1",
            }
            for n in range(3)
        ]
        match = PlayedMatch(LONG, node.system.me, teams=2, players=[f"{LONG[:63]}{team}" for team in "AB"])
        match.state = replace(match.state, options=replace(match.state.options, map_name=LONG))
        for second in range(8):
            match.play(random.Random(second), second * 1000)
        node.system.actors["match"] = [match]
        node.troubles = [Trouble("address", f"{LONG} has this node's address", 1_700_000_000_000)]
        for number, one in enumerate(cluster.nodes.values(), 1):
            one.system.metrics.sessions, one.system.metrics.activations = 10 * number, 30 * number
            one.admin.own.sampler.sample()
        yield cluster


async def test_no_page_breaks_its_policy(page: Page) -> None:
    """The engine's pages, the game's, and the states that a page can get into."""
    async with busy_cluster() as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/")
        await page.until("document.getElementById('login').checkVisibility()")
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until("document.querySelectorAll('.chart polygon').length > 0")
        assert await page.violations() == []
        await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=400, y=700)
        await walk(page, f"matches/{LONG}")
        await cluster.kill("node-1")
        await page.until("document.getElementById('link-text').textContent === 'live from node-2'")
        assert await page.violations() == []


async def test_page_of_a_studio_keeps_the_policy(page: Page) -> None:
    async def counters(context: Any, params: Any) -> dict[str, Any]:
        return {"rows": [{"key": "jar", "total": 7}]}

    app = msgspec.structs.replace(APP, pages=str(STUDIO), console={"counters": counters})
    async with TestCluster(1, app) as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate("location.hash = '#/counters'")
        await page.until("document.querySelector('main').innerText.includes('jar: 7')")
        assert await page.violations() == page.errors == []


@pytest.mark.parametrize("what", FORBIDDEN)
async def test_policy_is_strict(page: Page, what: str) -> None:
    """Planted: each of these is refused, and seen by the tests above."""
    async with TestCluster(1) as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate(f"{{ {FORBIDDEN[what]} }}; 0")
        await page.until("window.violations.length > 0")


async def test_headers_of_every_answer(http: httpx.AsyncClient) -> None:
    async with TestCluster(1) as cluster:
        url, auth = cluster.nodes["node-1"].admin.url, {"authorization": f"Bearer {TOKEN}"}
        for path in ("/", "/static/js/main.js", "/app/matches.js", "/healthz", "/api/v1/cluster", "/nowhere"):
            answer = await http.get(url + path, headers=auth)
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
            assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
            assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
            assert not any("unsafe" in sources or "*" in sources.split() for sources in policy.values())
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


# ---- F35 ----


@pytest.mark.parametrize("written", ["plain", "encoded"])
async def test_token_with_a_plus_in_the_link(page: Page, written: str) -> None:
    """F35: as base64 makes them."""
    token = "aZ+/9==+b%2B&c"
    async with TestCluster(1, token=token) as cluster:
        link = quote(token, safe="") if written == "encoded" else token.replace("%", "%25")
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={link}")
        await page.until(LIVE)
        assert await page.evaluate("document.getElementById('login').hidden")


@needs_ipv6
async def test_page_on_ipv6_moves_on_when_its_node_dies(page: Page) -> None:
    """F35: CSP cannot name an address of IPv6."""
    async with TestCluster(2, host="::1") as cluster:
        assert cluster.nodes["node-1"].admin.url.startswith("http://[::1]:")
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await walk(page)
        await cluster.kill("node-1")
        await page.until("document.getElementById('link-text').textContent === 'live from node-2'")
        assert await page.violations() == []


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
async def test_names_of_64_characters_fit_the_window(page: Page, width: int) -> None:
    """F35: on every page, also in the banner of a trouble."""
    fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    async with busy_cluster() as cluster:
        await page.size(width, 844)
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        for name in (*PAGES, f"matches/{LONG}"):
            await page.evaluate(f"location.hash = '#/{name}'")
            if name.startswith(("matches", "sessions")):
                await page.until(f"document.querySelector('main').innerText.includes('{LONG}')")
            await page.until("document.querySelector('main').innerText.length > 20")
            assert await page.evaluate(fits), name


async def test_header_of_a_phone_has_two_rows_and_shows_the_page_it_is_on(page: Page) -> None:
    """F35: its navigation stood in five."""
    async with busy_cluster() as cluster:
        await page.size(390, 844)
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        for name in PAGES:
            await page.evaluate(f"location.hash = '#/{name}'")
            current = f"document.querySelector('nav [aria-current][href=\"#/{name}\"]')"
            await page.until(f"{current} !== null")
            box = await page.evaluate(f"{current}.getBoundingClientRect().toJSON()")
            assert box["left"] >= 0 and box["right"] <= 390, name
        assert await page.evaluate("document.querySelector('.top').getBoundingClientRect().height") < 100


async def test_skip_to_content_stays_on_the_page(page: Page) -> None:
    """F35: by keyboard, as it is used."""
    async with busy_cluster() as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate("location.hash = '#/sessions'")
        await page.until("document.querySelector('main input') !== null")
        await page.evaluate("document.querySelector('.skip').focus()")
        for kind in ("keyDown", "keyUp"):
            await page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        await page.until("document.activeElement.id === 'view'")
        assert await page.evaluate("location.hash") == "#/sessions"
        assert await page.evaluate("document.querySelector('main input') !== null")


async def test_address_that_cannot_be_decoded_shows_a_page(page: Page) -> None:
    async with busy_cluster() as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate("location.hash = '#/matches/%'")
        await page.until("document.querySelector('main').innerText.includes('no such live match')")
        assert not any("URIError" in error for error in page.errors)


async def test_page_of_a_stored_match_names_its_theatre(page: Page) -> None:
    async with busy_cluster() as cluster:
        row = {"player": "ann", "team": 0, "present": False, "name": ""}
        cluster.stored["match_players"] = [
            row | dict.fromkeys(("kills", "deaths", "assists", "medals", "objectives", "score"), 3)
        ]
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}&page=/matches/over")
        await page.until("document.querySelector('main').innerText.includes('garrison replay over')")
        text = await page.until("document.querySelector('tbody').innerText.includes('ann') && document.body.innerText")
        assert "Its theatre has what happened." in text
        assert "no such" not in text


HOLD = """
(() => {
  const ask = window.fetch;
  window.asked = [];
  window.held = new Promise((open) => (window.release = open));
  window.fetch = async (url, options) => {
    const name = new URL(url).pathname.split("/").pop();
    window.asked.push(name);
    if (name === "stored-matches") await window.held;
    return ask(url, options);
  };
})()
"""
"""Notes what a page asks for, and holds the list of stored matches back until `release()`."""


async def test_filter_is_asked_for_at_once_also_while_something_is_asked(page: Page) -> None:
    async with busy_cluster() as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate(HOLD)
        await page.evaluate("location.hash = '#/matches'")
        await page.until(
            "asked.includes('stored-matches') && asked.filter((name) => name === 'live_matches').length > 1"
        )
        choose = "(mode) => { const one = document.querySelector('input[name=mode]'); one.value = mode;"
        choose += " one.dispatchEvent(new Event('change')); }"
        await page.evaluate(f"({choose})('slayer'); asked.length = 0; release()")
        await page.until("asked.includes('match-history')")
        assert (await page.evaluate("asked.slice(0, asked.indexOf('match-history'))")).count("live_matches") <= 2

        # and while nothing is: every one of the page's loops is woken
        await page.evaluate("asked.length = 0")
        await page.until("asked.filter((name) => name === 'live_matches').length > 1")
        await page.evaluate(f"({choose})('oddball'); asked.length = 0")
        await page.until("asked.includes('match-history')")
        assert (await page.evaluate("asked.slice(0, asked.indexOf('match-history'))")).count("live_matches") <= 2


STALL = """
(() => {
  const ask = window.fetch;
  window.stalls = 0;
  window.fetch = (...asked) => {
    const answer = ask(...asked);
    if (!String(asked[0]).endsWith("/live") || ++window.stalls > 3) return answer;
    setTimeout(() => {
      const end = performance.now() + 2500;
      while (performance.now() < end);
    });
    return window.stalls % 2 ? answer : answer.then((one) => new Promise((done) => setTimeout(() => done(one), 20)));
  };
})()
"""
"""Makes the browser stand still while it waits for an answer, three times."""


async def test_browser_that_stood_still_does_not_say_that_the_node_died(page: Page) -> None:
    """F35: for 2.5 s; a node that really dies is left all the same."""
    async with busy_cluster() as cluster:
        await page.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}")
        await page.until(LIVE)
        await page.evaluate(STALL)
        await page.until("window.stalls > 5", 30.0)
        assert await page.evaluate("document.getElementById('link-text').textContent") == "live from node-1"
        assert await page.evaluate("document.getElementById('banner').hidden")
        assert "stopped answering" not in await page.evaluate("document.querySelector('.events').textContent")
        await cluster.kill("node-1")
        await page.until("document.getElementById('link-text').textContent === 'live from node-2'", 4.0)
        assert "node-1 stopped answering" in await page.evaluate("document.getElementById('banner').innerText")

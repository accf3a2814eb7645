"""Moderation of a real cluster by the command line, and what the dashboard shows of it."""

import asyncio
import contextlib
import io
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import garrison
from game.moderation.rules import FOR_GOOD
from garrison.errors import GarrisonError, SessionClosed
from server.cli.app import run
from server.cli.local_cluster import LocalCluster
from server.sessions.tokens import issue
from tests.support.chromium import Page, browser, chromium_or_skip
from tests.support.local_clusters import local_cluster
from tests.support.sdk import PATIENT

ROWS = "[...document.querySelectorAll('main tbody tr')]"


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalCluster]:
    async with local_cluster(tmp_path / "home", "moderated", monkeypatch, nodes=2) as nodes:
        yield nodes


def token(cluster: LocalCluster, subject: str, role: str = "player") -> str:
    key = cluster.home.key_file.read_text().strip().encode()
    return issue(key, subject, role, 3600, time.time_ns() // 1_000_000)


async def command(cluster: LocalCluster, *words: str) -> tuple[int, str, str]:
    """`garrison WORDS`, asked of the first node: exit code, standard output and error."""
    asked = ["--url", cluster.nodes[0].ready["admin_url"], f"--token={cluster.home.admin_token}"]
    told, failed = io.StringIO(), io.StringIO()

    def there() -> int:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(failed):
            return run([*words, *asked, "--config", str(cluster.home.config)])

    return await asyncio.to_thread(there), told.getvalue(), failed.getvalue()


async def done(cluster: LocalCluster, *words: str) -> dict[str, Any]:
    code, told, failed = await command(cluster, *words, "--json")
    assert code == 0, failed
    answer: dict[str, Any] = json.loads(told)
    return answer


def client(cluster: LocalCluster, subject: str) -> garrison.Client:
    """A player whose client begins at the second node."""
    return garrison.connect([cluster.nodes[1].ready["client_url"]], token(cluster, subject), options=PATIENT)


async def ended(player: garrison.Client) -> int | None:
    """The close code with which the client's session was ended."""
    async with asyncio.timeout(20):
        with pytest.raises(SessionClosed) as caught:
            while True:
                await player.get_presence("somebody")
                await asyncio.sleep(0.01)
    return caught.value.close_code


async def refused(cluster: LocalCluster, subject: str) -> str:
    with pytest.raises(GarrisonError) as caught:
        async with client(cluster, subject):
            pass
    return f"{caught.value.code}: {caught.value.message}"


async def test_a_banned_player_is_out_at_once_and_stays_out(cluster: LocalCluster) -> None:
    async with client(cluster, "ann") as ann:
        banned = await done(cluster, "ban", "ann", "--reason", "team killing", "--for", "7d")
        assert banned["banned_until_ms"] > time.time() * 1000 + 6 * 86_400_000
        began = time.monotonic()
        assert await ended(ann) == 4101
        print(f"ended {time.monotonic() - began:.3f} s after the answer")
    assert await refused(cluster, "ann") == "banned: banned: team killing"
    code, told, _ = await command(cluster, "standing", "ann")
    assert code == 0 and told.startswith("ann: banned until ") and "(team killing)" in told
    assert (await done(cluster, "unban", "ann"))["banned_until_ms"] == 0
    async with asyncio.timeout(20):
        while True:  # the player comes to know of it a moment later
            with contextlib.suppress(GarrisonError):
                async with client(cluster, "ann"):
                    break
    code, _, failed = await command(cluster, "unban", "ann")
    assert code == 2 and failed.strip().endswith("the subject is not banned now")
    code, _, failed = await command(cluster, "unban", "nobody")
    assert code == 2 and failed.strip().endswith("the subject is not banned now")


async def test_a_kicked_player_may_come_back_and_a_revoked_token_may_not(cluster: LocalCluster) -> None:
    async with client(cluster, "bob") as bob:
        await done(cluster, "kick", "bob", "--reason", "asleep")
        assert await ended(bob) == 4103
    async with client(cluster, "bob"):
        pass
    old = token(cluster, "cyd")
    await done(cluster, "revoke", "cyd")
    with pytest.raises(GarrisonError) as caught:
        while True:  # until the player's own state has heard of it
            async with garrison.connect([cluster.nodes[1].ready["client_url"]], old, options=PATIENT):
                pass
    assert caught.value.code == "revoked"


async def test_the_log_has_every_act_with_who_and_why(cluster: LocalCluster) -> None:
    for number in range(3):
        await done(cluster, "mute", f"p{number}", "--reason", f"loud {number}")
    await done(cluster, "ban", "p0")
    page = await done(cluster, "moderation", "--limit", "3")
    assert [(row["subject"], row["act"]) for row in page["rows"]] == [("p0", "ban"), ("p2", "mute"), ("p1", "mute")]
    assert {(row["principal"], row["role"]) for row in page["rows"]} == {("admin", "admin")}
    rest = await done(cluster, "moderation", "--limit", "3", "--cursor", page["next"])
    assert ([row["reason"] for row in rest["rows"]], rest["next"]) == (["loud 0"], None)
    assert len((await done(cluster, "moderation", "--subject", "p0"))["rows"]) == 2
    assert (await done(cluster, "moderation", "--principal", "judge"))["rows"] == []
    code, told, _ = await command(cluster, "moderation")
    assert code == 0 and "loud 1" in told and "for good" in told
    for words in (
        ("ban", "p0", "--reason", "x" * 101),
        ("ban", "a b"),
        ("ban", "p0", "--for", "soon"),
        ("revoke", "p0", "--before", "tomorrow"),
        ("revoke", "p0", "--before", "2999-01-01T00:00:00Z"),
        ("moderation", "--cursor", "x"),
        ("standing", "a/b"),
    ):
        code, _, failed = await command(cluster, *words)
        assert code == 2 and len(failed.strip().splitlines()) == 1, (words, failed)


@pytest.mark.browser
async def test_the_dashboard_shows_the_log_and_a_standing(cluster: LocalCluster) -> None:
    chromium_or_skip()
    await done(cluster, "ban", "ann", "--reason", "<img src=x onerror=document.title='taken'>")
    await done(cluster, "mute", "bob", "--for", "12h")
    await done(cluster, "revoke", "ann")
    async with browser() as page:
        for width, dark in ((1440, False), (390, True)):
            await page.size(width, 900)
            await page.open(f"{cluster.nodes[0].ready['admin_url']}/#token={cluster.home.admin_token}", dark=dark)
            await page.until("document.getElementById('link').dataset.state === 'live'")
            await page.evaluate("location.hash = '#/moderation'")
            await page.until(f"{ROWS}.length === 3")
            acts = await page.evaluate(f"{ROWS}.map((row) => row.cells[1].innerText + ' ' + row.cells[2].innerText)")
            assert acts == ["revoke ann", "mute bob", "ban ann"]
            await _keep(page, f"moderation-{width}.png")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await page.evaluate(f"{ROWS}[2].querySelector('a').click()")
            await page.until("document.querySelector('main .pill')?.innerText === 'banned'")
            shown = await page.until(f"{ROWS}.length === 2 && document.querySelector('.standing').innerText")
            assert "Banned for good" in shown and "Tokens that were issued before" in shown
            await _keep(page, f"standing-{width}.png")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert await page.evaluate("document.querySelectorAll('main img').length") == 0
            assert await page.violations() == []
        await page.evaluate("location.hash = '#/moderation'")
        await page.until(f"{ROWS}.length === 3")
        search = "document.querySelector('main input')"
        await page.evaluate(f"{search}.value = 'bob', {search}.dispatchEvent(new Event('input'))")
        await page.until(f"{ROWS}.length === 1")
        assert page.errors == []
    assert (await done(cluster, "standing", "ann"))["banned_until_ms"] == FOR_GOOD


async def _keep(page: Page, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    if folder := os.environ.get("GARRISON_SCREENSHOTS"):
        (Path(folder) / name).write_bytes(await page.screenshot())

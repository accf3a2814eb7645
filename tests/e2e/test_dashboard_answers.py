"""The console's page of questions in a real Chromium, over real admin servers whose desk of questions answers as each
test says: what a person sees who goes on while a question is under way, when it is not answered, and on a phone."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from server.admin.questions import QuestionDesk
from server.columns.tables import SavedQuestion
from server.errors import BadInput, GarrisonError, Unavailable
from tests.support.admin import TOKEN, TestCluster
from tests.support.chromium import Page, browser, chromium_or_skip

pytestmark = pytest.mark.browser
NUMBERS = ("groups_left_out", "age_ms", "from_ms", "to_ms", "reloading", "rows_missing")
COUNTS = dict.fromkeys(("nodes", "answered", "rows_held", "rows_scanned", "stand_for"), 2)
COVERAGE = {**COUNTS, **dict.fromkeys(NUMBERS, 0), "missing": [], "troubles": [], "sampled": False}
SAVED = [SavedQuestion(f"Question {number}", f"SELECT {number} FROM t", "table") for number in range(4)]
TABLE = "document.querySelector('.result table')?.innerText"
NOTE = "document.querySelector('main .note').textContent"
WRONG = "(document.querySelector('.wrong').hidden ? '' : document.querySelector('.wrong').textContent)"
LIVE = "document.getElementById('live-refresh').click()"
Answer = dict[str, Any] | GarrisonError


def table(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"columns": columns, "rows": rows, "coverage": COVERAGE}


class Desk:
    """Answers each question with what `answers` has for its SQL, else with its SQL, once `open` is set."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self._changed = asyncio.Condition()
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, sql: str, since_ms: int, until_ms: int, timeout_s: float) -> bytes:
        async with self._changed:
            self.asked.append(sql)
            self._changed.notify_all()
        await self.open.wait()
        found = self.answers.get(sql, table(["sql"], [sql]))
        if isinstance(found, GarrisonError):
            raise found
        return msgspec.json.encode(found)

    async def forget(self, text: str) -> list[str]:
        return []

    async def is_asked(self, sql: str, times: int) -> None:
        """Wait until it was asked `sql` so often."""
        async with asyncio.timeout(10):
            async with self._changed:
                await self._changed.wait_for(lambda: self.asked.count(sql) >= times)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def cluster(desk: Desk) -> AsyncIterator[TestCluster]:
    chromium_or_skip()
    side = QuestionDesk(desk.ask, list, lambda: "", desk.forget, SAVED)
    async with TestCluster(2, bounds={"questions": side}) as nodes:
        yield nodes


@pytest.fixture
async def page(cluster: TestCluster) -> AsyncIterator[Page]:
    async with browser() as tab:
        await tab.open(f"{cluster.nodes['node-1'].admin.url}/#token={TOKEN}&page=/questions")
        await tab.until(f"{TABLE} === 'sql\\nSELECT 0 FROM t'")
        yield tab


def choose(label: str, value: str) -> str:
    """A person chooses in the list that has this label."""
    return f"""(() => {{ const list = document.querySelector("select[aria-label='{label}']");
        list.value = "{value}"; list.dispatchEvent(new Event("change")); }})()"""


def ask(sql: str, view: str) -> str:
    """Go to the address of a question."""
    return f"location.hash = `#/questions/${{encodeURIComponent({json.dumps(sql)})}}/{view}`"


async def test_a_choice_made_while_a_question_is_under_way_is_asked_next(page: Page, desk: Desk) -> None:
    desk.open.clear()
    await page.evaluate(choose("Saved questions", "g1"))
    await desk.is_asked("SELECT 1 FROM t", 1)
    await page.evaluate(choose("Saved questions", "g2"))
    await page.evaluate(choose("Saved questions", "g3"))
    desk.open.set()
    await page.until(f"{TABLE} === 'sql\\nSELECT 3 FROM t'")
    assert desk.asked == [f"SELECT {number} FROM t" for number in (0, 1, 3)]
    assert await page.evaluate("location.hash.includes('SELECT%203')")
    await page.evaluate(choose("Time", "3600"))
    await page.until("location.hash.endsWith('/table/3600')")

    # live is what was asked, not what is being typed
    await page.evaluate(f"document.querySelector('main textarea').value = 'SELE'; {LIVE}")
    await desk.is_asked("SELECT 3 FROM t", 4)
    await page.evaluate(LIVE)
    assert "SELE" not in desk.asked

    # an answer that comes after its page has no part in the next one
    desk.open.clear()
    await page.evaluate(choose("Saved questions", "g0"))
    await desk.is_asked("SELECT 0 FROM t", 2)
    await page.evaluate("location.hash = '#/moves'")
    await page.until("document.title.startsWith('Moves')")
    answered = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/questions')).length"
    count = await page.evaluate(answered)
    desk.open.set()
    await page.until(f"{answered} > {count}")
    assert await page.evaluate("location.hash") == "#/moves"

    # nor has what is drawn while the next address is there and its page is not
    await page.evaluate(ask("SELECT 0 FROM t", "table"))
    await page.until(f"{TABLE} === 'sql\\nSELECT 0 FROM t'")
    await page.evaluate(f"{choose('Shown as', 'bars')}; location.hash = '#/moves'; {choose('Shown as', 'table')}")
    await page.until("document.title.startsWith('Moves')")
    assert page.errors == []


async def test_a_question_that_is_not_answered_is_asked_again(page: Page, desk: Desk, cluster: TestCluster) -> None:
    desk.answers["SELECT 1 FROM t"] = Unavailable("the query process starts")
    await page.evaluate(choose("Saved questions", "g1"))
    await page.until(f"{WRONG} === 'the query process starts; asking again'")
    assert await page.evaluate("document.querySelector('.result').matches('.stale')")  # that of the question before
    del desk.answers["SELECT 1 FROM t"]
    await page.until(f"{TABLE} === 'sql\\nSELECT 1 FROM t' && {WRONG} === ''")
    assert await page.evaluate("document.querySelectorAll('.stale').length") == 0

    desk.answers["SELECT 2 FROM t"] = BadInput("line 1, column 8: that will not do")
    await page.evaluate(LIVE)
    await page.evaluate(choose("Saved questions", "g2"))
    await page.until(f"{WRONG} === 'line 1, column 8: that will not do'")
    assert await page.evaluate("document.getElementById('live-refresh').checked") is False

    # a node that hangs is not waited for once this page is another's
    await page.evaluate(
        """(() => { const real = fetch; window.fetch = (url, options) => new URL(url).origin === location.origin
            ? new Promise((_, no) => options.signal.addEventListener("abort", () => no(options.signal.reason)))
            : real(url, options); })()"""
    )
    await page.evaluate(choose("Saved questions", "g3"))
    await page.until(f"{WRONG} === 'node-1 does not answer; asking again'", 5)
    await page.until(f"{TABLE} === 'sql\\nSELECT 3 FROM t' && {WRONG} === ''", 5)
    assert await page.evaluate("document.getElementById('link-text').textContent") == "live from node-2"


async def test_answers_can_be_read_on_a_phone(page: Page, desk: Desk) -> None:
    await page.size(390, 844)
    times = [f"2026-11-29T10:0{minute}:00.250000Z" for minute in range(5)]
    desk.answers["lines"] = table(["t", "n"], *[[time, number] for number, time in enumerate(times)])
    await page.evaluate(ask("lines", "lines"))
    await page.until("document.querySelector('.answer polyline') !== null")
    heights = "[...document.querySelectorAll('.answer .axis')].map((text) => text.getBoundingClientRect().height)"
    assert min(await page.evaluate(heights)) > 9
    await page.size(844, 390)  # turned round
    await page.until("document.querySelector('.answer svg').viewBox.baseVal.width > 600")
    await page.size(390, 844)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390

    # one moment is no line and no area: it is bars; a name may be long or empty, and a number a name
    desk.answers["bars"] = table(["t", "name", "n"], [times[0], "x" * 64, 5], [times[0], "", 3])
    await page.evaluate(ask("bars", "areas"))
    label = "[...document.querySelectorAll('.bars .label')].map((each) => each.textContent)"
    assert await page.until(f"{label}.length && {label}") == [
        f"2026-11-29T10:00:00.250Z, {'x' * 64}",
        "2026-11-29T10:00:00.250Z, (empty)",
    ]
    assert await page.evaluate("document.querySelector('.bar-line').clientWidth") > 80
    desk.answers["codes"] = table(["code", "n"], [4010, 5], [4011, 3])
    await page.evaluate(ask("codes", "bars"))
    await page.until(f"{label}[1] === 'code 4,011'")

    # what is said of a picture is said once, and goes with it
    desk.answers["texts"] = table(["a", "b"], ["c", "d"])
    await page.evaluate(ask("texts", "lines"))
    await page.until(f"{NOTE}.includes('nothing to draw')")
    await page.evaluate(choose("Shown as", "areas"))
    assert (await page.evaluate(NOTE)).count("nothing to draw") == 1
    await page.evaluate(choose("Shown as", "table"))
    assert "nothing to draw" not in await page.evaluate(NOTE)

    # the next answer leaves a table where it was scrolled to
    columns = [f"column{number}" for number in range(12)]
    desk.answers["wide"] = table(columns, *[[f"{row}{column}" for column in columns] for row in range(300)])
    await page.evaluate(ask("wide", "table"))
    scroll = "document.querySelector('.result .scroll')"
    await page.until(f"{scroll}?.tabIndex === 0")
    await page.evaluate(f"{scroll}.scrollTo(200, 300); {scroll}.focus(); {LIVE}")
    await desk.is_asked("wide", 2)
    desk.answers["wide"] = table(columns, *[["new"] * 12 for _ in range(300)])
    await page.until("document.querySelector('.result td')?.textContent === 'new'")
    assert await page.evaluate(f"[{scroll}.scrollLeft, {scroll}.scrollTop]") == [200, 300]
    assert await page.evaluate(f"document.activeElement === {scroll}")
    assert await page.violations() == []

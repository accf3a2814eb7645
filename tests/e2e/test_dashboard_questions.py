"""The console's page of questions in a real Chromium, over a node that keeps columns."""

from pathlib import Path

import pytest

from tests.support.chromium import browser, chromium_or_skip
from tests.support.local_clusters import local_cluster

pytestmark = pytest.mark.browser
NOTE = "document.querySelector('main .note').textContent"


async def test_questions_are_asked_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chromium_or_skip()
    settings = ["columns.enabled=true", f"columns.directory={tmp_path}/columns"]
    async with (
        local_cluster(tmp_path / "home", "questions", monkeypatch, nodes=1, settings=settings) as cluster,
        browser() as page,
    ):
        await page.open(f"{cluster.nodes[0].ready['admin_url']}/#token={cluster.home.admin_token}")
        await page.until("document.getElementById('link').dataset.state === 'live'", 15)
        await page.evaluate("location.hash = '#/questions'")
        await page.until("document.querySelectorAll('main select')[0]?.options.length > 5", 15)
        select = "document.querySelector('main select')"
        cpu = f"[...{select}.options].find((one) => one.text.startsWith('CPU')).value"
        choose = f"(() => {{ {select}.value = {cpu}; {select}.dispatchEvent(new Event('change')); }})()"
        await page.evaluate(choose)
        await page.evaluate("document.getElementById('live-refresh').click()")
        await page.until(f"{NOTE}.includes('1 of 1 nodes')", 18)  # the query process starts
        await page.until("document.querySelector('.answer polyline')?.points.numberOfItems > 1", 18)
        await page.evaluate(
            "(() => { const sql = document.querySelector('main textarea'); sql.value = 'SELECT foo FROM health';"
            " document.querySelector('form.question').requestSubmit(); })()"
        )
        await page.until(
            "document.querySelector('.wrong').textContent.includes(\"line 1, column 10: no column 'foo'\")"
        )
        await page.size(390, 844)
        assert await page.evaluate("document.documentElement.scrollWidth <= 390")
        assert await page.violations() == []

"""The dashboard over a store alone: it serves what is stored, and no node is asked or made."""

import asyncio
from pathlib import Path

import httpx
import pytest

from game.commands.theatre import page_of
from server.cli.app import run
from server.cli.config import read_settings
from server.cli.viewer import viewer
from server.errors import BadSetting
from tests.support.databases import fresh
from tests.support.foreign_logs import LOGS, imported


async def test_a_viewer_serves_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database, log = fresh("sqlite", tmp_path), tmp_path / "tf2.log"
    log.write_bytes(LOGS["tf2"])
    (match,) = [found.name for found in imported(LOGS["tf2"])[0]]
    settings = read_settings(None, [f"store.url={database.url}"])
    async with viewer(settings) as (url, token):
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}) as http:
            pages = (await http.get("/pages.json")).json()
            assert pages["cluster"] is False and "matches.js" in pages["modules"]
            assert (await http.get(f"/api/v1/matches/{match}/theatre")).json()["code"] == "not_found"
            words = ["import", str(log), "--set", f"store.url={database.url}"]
            assert await asyncio.to_thread(run, words) == 0
            assert capsys.readouterr().out.splitlines()[-1].endswith(f" theatre {match}")
            told = (await http.get(f"/api/v1/matches/{match}/theatre")).json()
            assert (told["phase"], told["player_count"], told["source"]) == ("ended", 4, "imported:tf2")
            assert [row["match"] for row in (await http.get("/api/v1/stored-matches")).json()["rows"]] == [match]
            assert (await http.get("/api/v1/live")).json()["nodes"] == []
            assert (await http.get("/api/v1/matches")).json()["rows"] == []
            act = await http.post("/api/v1/actions/ban", json={"subject": "ann", "reason": "x"})
            assert act.status_code == 503 and "no node runs here" in act.json()["message"]
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/api/v1/live")).status_code == 401


async def test_a_viewer_without_a_database_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="there is no database"):
        async with viewer(read_settings(None, [f"store.url=sqlite:///{tmp_path}/none.db"])):
            pass


def test_the_address_of_a_theatre() -> None:
    assert page_of("ranked:42", 5_000) == "/matches/ranked%3A42/theatre?t=5000" and page_of("m") == "/matches/m/theatre"

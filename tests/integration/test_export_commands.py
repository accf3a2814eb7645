"""`garrison export` and `garrison verify` on a store of a few matches, in this process: no node, no cluster."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from game import replay
from game.messages import Assist, Kill, Medal, Objective
from garrison_bots.recorded import read_recording
from server.cli.app import run
from server.drivers import build_store, upgrade_store
from server.eventlog import portable
from server.eventlog.ports import StoredLog, WholeLog
from server.ids import actor_id
from server.settings import Settings, from_tree
from tests.support.matches import Played

NAMES = ("alpha", "beta", "gamma")


def played(kills: int) -> Played:
    match = Played().live(4, map_name="Recharge")
    for number in range(kills):
        match.report(Kill(1000 * number, "p0", "p1"), Medal(1000 * number, "p0", "Snipe"), Assist(1000 * number, "p2"))
    match.report(Objective(1000 * kills, "p3", "flag", 2))
    return match.end(1000 * kills + 500)


MATCHES = {name: played(5 + place) for place, name in enumerate(NAMES)}


def settings_of(path: Path) -> Settings:
    return from_tree({"store": {"url": f"sqlite:///{path}"}})


async def fill(path: Path) -> None:
    settings = settings_of(path)
    await upgrade_store(settings)
    store = build_store(settings)
    await store.open()
    for name, match in MATCHES.items():
        log = match.stored(8)
        await store.insert_log("match", actor_id("match", name), WholeLog(log.head, log.chunks, match.state))
    await store.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("export") / "garrison.db"
    asyncio.run(fill(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.read_bytes()


class Place:
    """A folder with the store in it, and the program."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._capsys = path, capsys

    def garrison(self, *words: str) -> tuple[int, str, str]:
        code = run((*words, "--set", f"store.url=sqlite:///{self.path}/garrison.db"))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        return json.loads(self.garrison(*words, "--json")[1])

    def damage(self, name: str, place: int = -5) -> None:
        with closing(sqlite3.connect(self.path / "garrison.db")) as opened, opened:
            query = "SELECT first_seq, data FROM log_chunks WHERE key = ? ORDER BY first_seq LIMIT 1 OFFSET 1"
            ((first, data),) = opened.execute(query, (name,)).fetchall()
            broken = bytearray(data)
            broken[place] ^= 1
            update = "UPDATE log_chunks SET data = ? WHERE key = ? AND first_seq = ?"
            opened.execute(update, (bytes(broken), name, first))

    def log(self, name: str) -> StoredLog:
        return MATCHES[name].stored(8)


@pytest.fixture
def place(filled: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "garrison.db").write_bytes(filled)
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, capsys)


# ---- .garrison ------------------------------------------------------------------------------


def test_an_exported_match_verifies_without_the_store(place: Place) -> None:
    told = place.json("export", "beta", "--to", "beta.garrison")
    log = place.log("beta")
    assert (told["match"], told["events"], told["head"]) == ("beta", log.next_seq - 1, log.head.hex())
    assert told["bytes"] == (place.path / "beta.garrison").stat().st_size
    (place.path / "garrison.db").unlink()
    code, said, _ = place.garrison("verify", "beta.garrison")
    assert code == 0 and "match/beta, ended" in said and "every state recomputed" in said
    checked = place.json("verify", "beta.garrison")
    assert (checked["verified"], checked["ended"], checked["head"]) == (True, True, log.head.hex())
    with (place.path / "beta.garrison").open("rb") as stream:
        assert portable.read(stream).log == log
    assert sorted(path.name for path in place.path.iterdir()) == ["beta.garrison"]


def test_a_broken_file_is_refused_by_its_event(place: Place) -> None:
    place.garrison("export", "beta", "--to", "beta.garrison")
    data = (place.path / "beta.garrison").read_bytes()
    (place.path / "beta.garrison").write_bytes(data[:300] + bytes([data[300] ^ 4]) + data[301:])
    code, _, failed = place.garrison("verify", "beta.garrison")
    assert code == 2 and "beta.garrison does not verify: segment at event 1: " in failed
    checked = place.json("verify", "beta.garrison")
    assert checked["verified"] is False and "segment at event 1: " in checked["why"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("verify",), "name a .garrison file, or --all"),
        (("verify", "none.garrison"), "none.garrison: No such file"),
        (("verify", "garrison.db"), "garrison.db: not a .garrison file"),
        (("export",), "name a match and --to"),
        (("export", "beta"), "name a match and --to"),
        (("export", "beta", "--to", "beta.txt"), "called X.garrison"),
        (("export", "nobody", "--to", "x.garrison"), "no match 'nobody'"),
        (("export", "beta", "--to", "none/x.garrison"), "none/x.garrison: No such file"),
        (("export", "beta", "--parquet", "here"), "--parquet takes every ended match"),
    ],
)
def test_bad_use_is_told_in_a_line(place: Place, words: tuple[str, ...], why: str) -> None:
    code, said, failed = place.garrison(*words)
    assert (code, said, len(failed.splitlines())) == (2, "", 1)
    assert why in failed


def test_a_damaged_match_is_not_exported(place: Place) -> None:
    place.damage("beta")
    code, _, failed = place.garrison("export", "beta", "--to", "beta.garrison")
    assert code == 2 and "does not verify, and is not exported: segment at event 9: events" in failed
    assert not list(place.path.glob("*beta*"))


# ---- JSON Lines -----------------------------------------------------------------------------


def test_a_recording_is_what_play_reads(place: Place) -> None:
    code, said, _ = place.garrison("export", "alpha", "--jsonl")
    assert code == 0
    (place.path / "alpha.jsonl").write_text(said)
    recording = read_recording(place.path / "alpha.jsonl")
    wanted = replay.totals(MATCHES["alpha"].state)
    assert recording.totals() == {
        player: {"kills": line.kills, "deaths": line.deaths, "medals": line.medals} for player, line in wanted.items()
    }
    lines = [json.loads(line) for line in said.splitlines()]
    assert lines[0] == {"time_ms": 0, "player": "p0", "victim": "p1", "type": "kill"}
    assert lines[1] == {"time_ms": 0, "player": "p1", "type": "death"}
    assert lines[-1] == {"time_ms": 5000, "player": "p3", "name": "flag", "points": 2, "type": "mode"}
    told = place.json("export", "alpha", "--jsonl", "--to", "again.jsonl")
    assert told["lines"] == len(lines) and (place.path / "again.jsonl").read_text() == said


# ---- Parquet --------------------------------------------------------------------------------


def test_parquet_has_every_match_participant_and_event(place: Place) -> None:
    from pyarrow import parquet

    told = place.json("export", "--parquet", "out")
    tables = {name: parquet.read_table(place.path / "out" / f"{name}.parquet") for name in ("matches", "events")}
    assert [row["match"] for row in tables["matches"].to_pylist()] == list(NAMES)
    for row in tables["matches"].to_pylist():
        match = MATCHES[row["match"]]
        assert row["team_scores"] == list(match.state.team_scores) and row["winner"] == match.state.winner
        assert (row["map_name"], row["length_ms"]) == ("Recharge", match.state.time_ms)
        assert (row["events"], row["head"]) == (len(match.records), place.log(row["match"]).head.hex())
    lines = parquet.read_table(place.path / "out" / "participants.parquet").to_pylist()
    assert [(row["match"], row["player"], row["kills"], row["deaths"]) for row in lines if row["player"] == "p0"] == [
        (name, "p0", 5 + place, 0) for place, name in enumerate(NAMES)
    ]
    events = tables["events"].to_pylist()
    assert [(row["match"], row["seq"]) for row in events] == [
        (name, record.seq) for name in NAMES for record in MATCHES[name].records
    ]
    kills = [row for row in events if row["match"] == "beta" and row["type"] == "kill"]
    assert [(row["time_ms"], row["player"], row["victim"], row["fields"]) for row in kills] == [
        (1000 * n, "p0", "p1", "") for n in range(6)
    ]
    (created, *_) = [row for row in events if row["type"] == "created"]
    assert json.loads(created["fields"])["options"]["map_name"] == "Recharge"
    medals = {(row["player"], row["name"]) for row in events if row["type"] == "medal"}
    assert medals == {("p0", "Snipe")}
    assert told == {"directory": "out", "matches": 3, "participants": 12, "events": len(events), "left_out": {}}
    assert sorted(path.name for path in (place.path / "out").iterdir()) == [
        "events.parquet", "matches.parquet", "participants.parquet",
    ]  # fmt: skip


def test_rows_are_written_in_batches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("game.commands.export_parquet.ROWS", 7)
    place.garrison("export", "--parquet", "out")
    written = parquet.ParquetFile(place.path / "out" / "events.parquet")
    groups = [written.metadata.row_group(n).num_rows for n in range(written.num_row_groups)]
    assert max(groups) == 7 and sum(groups) == sum(len(match.records) for match in MATCHES.values())


def test_damaged_matches_are_left_out_and_named(place: Place) -> None:
    from pyarrow import parquet

    place.damage("beta")
    code, said, failed = place.garrison("export", "--parquet", "out")
    assert code == 2 and "left out: match beta: segment at event 9: events 9 to 16: checksum" in failed
    assert "2 matches" in said
    matches = parquet.read_table(place.path / "out" / "matches.parquet")
    assert matches.column("match").to_pylist() == ["alpha", "gamma"]


def test_a_missing_extra_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, failed = place.garrison("export", "--parquet", "out")
    assert code == 2 and "install `garrison-server[parquet]`" in failed
    assert not (place.path / "out").exists()


# ---- every log ------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_log_of_the_store_is_verified_and_the_bad_named(place: Place) -> None:
    """With real processes, which is why it is the only such test."""
    events = sum(len(match.records) for match in MATCHES.values())
    place.damage("beta")
    place.damage("gamma", place=6)
    code, said, _ = place.garrison("verify", "--all", "--processes", "2", "--json")
    told = json.loads(said)
    assert code == 2
    assert (told["logs"], told["events"], told["processes"]) == (3, events, 2)
    assert [(bad["log"], bad["why"].split(": ")[:2]) for bad in told["bad"]] == [
        ("match/beta", ["segment at event 9", "events 9 to 16"]),
        ("match/gamma", ["segment at event 9", "header"]),
    ]


def test_a_store_of_good_logs_verifies(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("server.cli.processes.ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))
    monkeypatch.setattr("server.cli.verify.BATCH", 1)
    monkeypatch.setattr("server.cli.verify.PAGE", 2)
    code, said, _ = place.garrison("verify", "--all", "--processes", "1")
    assert code == 0 and "3 of 3 logs verify; " in said
    place.damage("alpha")
    code, said, _ = place.garrison("verify", "--all", "--processes", "1")
    assert code == 2
    assert said.splitlines()[0].startswith("match/alpha does not verify: segment at event 9: events")
    assert said.splitlines()[1].startswith("2 of 3 logs verify; ")


def test_a_damaged_match_is_shown_with_its_gap(place: Place) -> None:
    place.damage("beta")
    code, said, failed = place.garrison("replay", "beta")
    (gap,) = [line for line in said.splitlines() if "cannot be read" in line]
    assert "events 9 to 16 cannot be read: segment at event 9: events" in gap
    assert "the match is over" in said
    assert code == 2 and "match beta is damaged: events 9 to 16 cannot be read" in failed

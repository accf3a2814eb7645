"""Logs of other games as matches: small ones of our own with the traps of real ones, and the samples that are at hand
where there are some."""

import gzip
import io
from pathlib import Path

import msgspec
import pytest

from game import replay
from game.imports import assembler, halo
from game.imports.encode import Origins, whole_log
from game.imports.importing import FileImport
from game.imports.lines import MAX_LINE, read_lines
from game.match import endings, rules
from game.match.events import Named
from game.match.state import MatchState
from game.messages import MatchOptions, Objective
from server.errors import BadInput, Rejected
from tests.support import foreign_logs
from tests.support.foreign_logs import ADDRESSES, LOGS, counted, imported, state_of, stored
from tests.support.matches import shared_data

SAMPLES = shared_data()


def only(data: bytes) -> MatchState:
    (match,), _ = imported(data)
    return state_of(match)


# ---- formats --------------------------------------------------------------------------------


def test_team_fortress_log_is_one_match_from_the_first_round_on() -> None:
    (match,), found = imported(foreign_logs.tf2())
    state = state_of(match)
    assert counted(state) == {
        "U:1:71": ('A <n<n "q": ', 1, 1),
        "U:1:73": ('Bea said "x" killed "y', 0, 2),
        "U:1:74": ("Cal[31m", 1, 0),
        "bot-9": ("Bo", 0, 1),
    }
    assert (state.players["U:1:73"].assists, state.players["U:1:73"].objectives) == (1, 1)
    assert (state.tags, state.properties) == (["imported", "tf2"], {"source": "imported:tf2"})
    assert (match.source, state.options.map_name, state.options.mode) == ("imported:tf2", "koth_lake", "recorded")
    assert (state.team_scores, state.winner, state.end_reason) == ((1, 2), "team:1", "time")
    assert [line.team for line in state.players.values()] == [0, 1, 1, 1]
    assert "flag captured" in [event.name for event in match.events if isinstance(event, Objective)]
    unknown = found.told.unknown
    assert {kind: line.first_line for kind, line in unknown.items()} == {
        "something new that": 28,
        "no time in front": 30,
        "kil": 31,
    }
    assert found.told.outside == 1, "the kill after the end"


def test_clock_that_goes_back_is_never_followed() -> None:
    (match,), _ = imported(foreign_logs.tf2())
    times = [event.time_ms for event in match.events]
    assert times == sorted(times) and times[-1] == 3_598_000 + 17_000


def test_quake_log_is_told_by_its_numbers() -> None:
    (ctf, deathmatch), found = imported(foreign_logs.quake())
    assert (found.told.warm_ups, ctf.source, ctf.cut, deathmatch.cut) == (1, "imported:openarena", False, True)
    state = state_of(ctf)
    (guid,) = [player for player in state.players if player.startswith("guid:")]
    assert counted(state) == {
        "slot-0": ("Zö killed by", 1, 0),
        guid: ("Yi: x <world>", 0, 1),
        "bot-2": ("Bot", 1, 3),
        "slot-0-2": ("New", 0, 1),
    }, "a team kill is a death only; whoever comes to a slot next is another player; who watches is none"
    assert "00112233" not in repr(ctf.events), "a guid opens doors"
    assert (state.team_scores, state.winner, state.end_reason) == ((1, 0), "team:0", "score")
    assert state.time_ms == (102 * 60 + 25) * 1000
    assert state.started_wall_ms == 1_773_518_460_000
    last = state_of(deathmatch)
    assert counted(last) == {"slot-5": ("Alone", 1, 0), "slot-6": ("", 0, 1)}
    assert (last.end_reason, last.winner, last.team_scores) == ("host_vanished", None, ())


def test_xonotic_log_has_no_address_and_no_time() -> None:
    (duel, cut), _ = imported(foreign_logs.xonotic())
    state = state_of(duel)
    assert counted(state) == {
        "slot-1": ("Ulf: again", 2, 1),
        "slot-2": ("bad: name", 0, 1),
        "slot-3": ("beef: more", 1, 0),
        "bot-4": ("[BOT]Vi", 0, 2),
    }
    assert (state.time_ms, state.options.map_name, state.end_reason) == (300_000, "stormkeep", "host_ended")
    assert state.winner == f"slot-1@{duel.name}"
    assert {line.score for line in state.players.values()} == {2, -1, 1, 0}
    assert (cut.cut, counted(state_of(cut))) == (True, {"slot-9": ("Win", 0, 1)})


def test_recording_counts_each_event_for_itself() -> None:
    (match,), found = imported(LOGS["jsonl"])
    state = state_of(match)
    assert counted(state) == {"ann": ("", 1, 0), "bea": ("", 0, 1)}
    assert (state.players["ann"].medals, state.players["bea"].objectives, state.time_ms) == (1, 1, 310)
    assert not any(line.present for line in state.players.values()), "a film does not say when a player joined"
    assert {kind: told.count for kind, told in found.told.unknown.items()} == {"not an event": 2, "type dance": 1}
    assert (state.end_reason, state.winner, match.cut) == ("host_ended", None, False)


def film_bytes() -> bytes:
    """Highlights as a film of the newer layout has them: junk, then xuid, marker, and 60 bytes before their end."""
    import zlib

    def event(xuid: int, name: str, hint: int, time_ms: int, medal: int | None = None) -> bytes:
        tail = name.encode("utf-16le").ljust(32, b"\0") + b"\0" * 15 + bytes([hint]) + time_ms.to_bytes(4, "big")
        tail += b"\0" * 3 + bytes([medal is not None]) + b"\0" * 3 + bytes([medal or 0])
        return xuid.to_bytes(8, "little") + b"\x2d\xc0" + b"\x07" * 5 + tail + bytes.fromhex("00002ee0")

    ann, bea = 2_500_000_000_000_001, 2_500_000_000_000_002
    events = [event(ann, "Änn", 50, 2_000), event(bea, "Bea", 20, 2_000), event(ann, "Änn", 10, 1_000)]
    return zlib.compress(b"\x01\x02".join(events))


def test_film_highlights_are_read_through_their_package() -> None:
    pytest.importorskip("spnkr")
    (match,), found = imported(film_bytes())
    assert counted(state_of(match)) == {
        "xuid:2500000000000001": ("Änn", 1, 0),
        "xuid:2500000000000002": ("Bea", 0, 1),
    }
    assert (match.source, found.told.format) == ("imported:halo", "Halo Infinite film")
    assert state_of(match).players["xuid:2500000000000001"].objectives == 1


def test_film_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"garrison-server\[halo\]"):
        imported(film_bytes())


def test_film_that_is_none_is_refused() -> None:
    pytest.importorskip("spnkr")
    import zlib

    with pytest.raises(BadInput, match="--film-version"):
        imported(zlib.compress(b"\0" * 5_000))


# ---- all formats ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGS)
def test_log_verifies_and_holds_no_address(name: str) -> None:
    for match in imported(LOGS[name])[0]:
        log = whole_log(match.events)
        verified = replay.verify(stored(log))
        assert verified.end_hash and verified.state == log.projection
        plain = repr(match.events)
        assert not any(address in plain for address in ADDRESSES)
        assert [replay.feed_line(step) for step in replay.steps(stored(log))]


@pytest.mark.parametrize("name", LOGS)
def test_same_lines_are_the_same_match(name: str) -> None:
    """Whatever their ends are, in whatever company, and packed."""
    first = imported(LOGS[name])[0]
    with gzip.open(io.BytesIO(gzip.compress(LOGS[name]))) as stream:
        packed = list(FileImport(stream, Origins("")))  # type: ignore[arg-type]
    again = imported(LOGS[name].replace(b"\r\n", b"\n"))[0]
    assert [match.name for match in first] == [match.name for match in again] == [match.name for match in packed]
    assert all(match.name != rules.LATEST and len(match.name) < 40 for match in first)


def test_two_files_after_each_other_are_as_many_matches() -> None:
    twice = LOGS["tf2"].replace(b"bat", b"hat") + b"\n" + LOGS["tf2"]
    names = [match.name for match in imported(twice)[0]]
    assert len(set(names)) == 2 and names[1] == imported(LOGS["tf2"])[0][0].name


def test_local_players_are_of_their_match_and_have_no_career() -> None:
    (match, *_), _ = imported(LOGS["tf2"], counts=True)
    state = state_of(match)
    assert f"bot-9@{match.name}" in state.players
    assert sorted(endings.with_career(state)) == ["U:1:71", "U:1:73", "U:1:74"]
    unwanted = state_of(imported(LOGS["tf2"])[0][0])
    assert endings.with_career(unwanted) == []


def test_clients_cannot_say_that_a_match_was_imported() -> None:
    for options in (MatchOptions(source="imported:tf2"), MatchOptions(counts=True)):
        with pytest.raises(Rejected) as refusal:
            rules.create(MatchState(), "m", "host", options, 1)
        assert refusal.value.code == "bad_options"


def test_rename_is_an_event_of_its_moment() -> None:
    (match,), _ = imported(LOGS["tf2"])
    names = [event.name for event in match.events if isinstance(event, Named) and event.player == "U:1:74"]
    assert names == ["Ca\u0301l \U0001f600", "Cal[31m"]


def test_file_of_no_known_format_names_its_first_misfit() -> None:
    with pytest.raises(BadInput, match=r"tried JSON Lines, HL.*Quake 3.*Xonotic.*Halo.*line 2 does not fit: # Title"):
        imported(b"\n# Title\nmore\n")
    with pytest.raises(BadInput, match="the file has no line"):
        imported(b"")


def test_file_that_begins_as_compressed_and_is_text_is_read_as_text() -> None:
    with pytest.raises(BadInput, match="line 1 does not fit: x"):
        imported(b"x\x9c is how this text begins\n")


def test_long_line_is_passed_over_in_bounded_memory() -> None:
    data = b"a" * (3 * MAX_LINE) + b"\nshort\n" + b"b" * (MAX_LINE + 1)
    lines = list(read_lines(io.BytesIO(data)))
    assert [(line.number, line.text) for line in lines] == [(1, None), (2, "short"), (3, None)]
    assert lines[-1].end == len(data)


def test_match_with_too_many_events_is_refused_and_the_next_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "MAX_EVENTS", 8)
    matches, found = imported(LOGS["quake3"])
    assert len(matches) == 1 and len(found.told.refused) == 1 and "too many events" in found.told.refused[0]


def test_packed_file_that_was_cut_gives_what_is_there() -> None:
    chat = b"".join(b'\nL 10/25/2026 - 02:01:00: "A<1><[U:1:71]><Red>" say "%x"' % n**9 for n in range(2_000))
    cut = gzip.compress(LOGS["tf2"] + chat)[:-300]
    with gzip.open(io.BytesIO(cut)) as stream:
        found = FileImport(stream, Origins(""))  # type: ignore[arg-type]
        assert len(list(found)) == 1
    assert "packed file that was cut" in found.told.unknown


def test_wall_clock_is_of_the_zone_that_is_said() -> None:
    from game.commands.import_ import offset_of

    (utc,), _ = imported(LOGS["tf2"])
    (berlin,), _ = imported(LOGS["tf2"], offset_ms=offset_of("Europe/Berlin"))
    assert state_of(utc).started_wall_ms - state_of(berlin).started_wall_ms == 7_200_000
    assert utc.name == berlin.name
    with pytest.raises(BadInput, match="--zone"):
        offset_of("../etc/passwd")


def test_log_without_wall_clock_is_as_old_as_its_file() -> None:
    (match,), _ = imported(LOGS["jsonl"])
    state = state_of(match)
    assert abs(state.ended_wall_ms - foreign_logs.WRITTEN_MS) < 10


# ---- samples --------------------------------------------------------------------------------

TOTALS = {
    "tf2.log": [
        {
            "U:1:1000001": ("Ada: the 2nd", 2, 0),
            "U:1:1000002": ("-ßЯҢ- Bo", 1, 1),
            "U:1:1000003": ('killed "Cy" with', 0, 1),
            "U:1:1000004": ("Dee", 0, 2),
        }
    ],
    "cs2-http.log": [
        {
            "U:1:1000005": ("Eve", 2, 0),
            "U:1:1000006": ("Finn", 0, 2),
            "U:1:1000007": ("Gil", 1, 1),
            "bot-0": ("Wolf", 0, 1),
            "bot-3": ("Bear", 0, 1),
        }
    ],
    "quake3-games.log": [
        {"slot-2": ("Ivy of the Hill", 1, 2), "slot-3": ("Jo", 1, 2)},
        {"slot-2": ("Kit", 1, 0), "slot-4": ("Lou", 0, 1)},
    ],
    "urbanterror-games.log": [{"Mia": ("Mia", 1, 1), "Ned": ("Ned", 1, 2)}],
    "xonotic-event.log": [
        {"slot-1": ("Olga^1Prime", 1, 2), "slot-2": ("Pia: the second", 1, 1), "bot-3": ("[BOT]Quill", 0, 2)}
    ],
}


@pytest.mark.parametrize("name", TOTALS)
def test_sample_has_the_totals_that_were_written_beside_it(name: str) -> None:
    path = SAMPLES / "formats" / name
    if not path.is_file():
        pytest.skip("no samples here")
    matches, found = imported(path.read_bytes())
    totals = [
        {line[0] if key.startswith("guid:") else key: line for key, line in counted(state_of(match)).items()}
        for match in matches
    ]
    assert totals == TOTALS[name]
    scores = {"tf2.log": (1, 0), "cs2-http.log": (1, 0), "urbanterror-games.log": (1, 0), "xonotic-event.log": (1, 0)}
    if name in scores:
        assert [state_of(match).team_scores for match in matches] == [scores[name]]
        assert [state_of(match).winner for match in matches] == ["team:0"]
    if name == "quake3-games.log":
        assert [state_of(match).time_ms for match in matches] == [3_690_000, 59_000]
    assert sum(told.count for told in found.told.unknown.values()) <= 1


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("halo_infinite/*.jsonl")), ids=lambda path: path.stem[:8])
def test_recorded_match_has_the_totals_of_its_file(path: Path) -> None:
    data = path.read_bytes()
    events = [msgspec.json.decode(line) for line in data.splitlines()]
    (match,), found = imported(data)
    state = state_of(match)
    for player in {event["player"] for event in events}:
        mine = [event["type"] for event in events if event["player"] == player]
        line = state.players[player]
        told = (line.kills, line.deaths, line.medals, line.objectives)
        assert told == tuple(mine.count(what) for what in ("kill", "death", "medal", "mode"))
    assert state.time_ms == events[-1]["time_ms"] and not found.told.unknown

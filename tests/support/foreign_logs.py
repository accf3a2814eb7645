"""Small logs of other games, made up, with the traps that real ones hold; and an import of bytes, in memory.

Addresses are of the documentation ranges: none may be found in what an import stores.
"""

import io
from typing import Any

from game.imports.encode import ImportedMatch, Origins, whole_log
from game.imports.importing import FileImport
from game.match.state import MatchState
from server.eventlog.ports import StoredLog, WholeLog

WRITTEN_MS = 1_790_000_000_000
ADDRESSES = ("192.0.2.", "2001:db8", "198.51.100.")

ANN = '"A <n<n "q": <2><[U:1:71]>'
BEA = '"Bea said "x" killed "y<3><STEAM_0:1:36>'
CAL = '"Ca\u0301l \U0001f600<4><[U:1:74]>'
BOT = '"Bo<9><BOT>'


def tf2() -> bytes:
    def at(clock: str, text: str) -> str:
        return f"L 10/25/2026 - {clock}: {text}"

    lines = [
        at("01:59:50", 'Log file started (file "x.log") (game "/srv/tf") (version "1")'),
        at("01:59:50", 'Loading map "koth_lake"'),
        at("01:59:50", 'Started map "koth_lake" (CRC "77")'),
        at("01:59:51", ANN + '<>" connected, address "192.0.2.7:27005"'),
        at("01:59:51", ANN + '<Unassigned>" joined team "Red"'),
        at("01:59:52", BEA + '<Unassigned>" joined team "Blue"'),
        at("01:59:52", BOT + '<Unassigned>" joined team "Blue"'),
        at("01:59:53", ANN + '<Red>" killed ' + BEA + '<Blue>" with "bat" (attacker_position "1 2 3")'),
        at("02:00:00", 'World triggered "Round_Start"'),
        at("02:59:58", ANN + '<Red>" killed ' + BEA + '<Blue>" with "bat" (customkill "headshot")'),
        at("02:00:03", CAL + '<Unassigned>" joined team "Blue"'),
        at("02:00:05", CAL + '<Blue>" killed ' + BEA + '<Blue>" with "bat"'),
        at("02:00:06", CAL + '<Blue>" changed name to "Cal\x1b[31m\u202e"'),
        at("02:00:07", BEA + '<Blue>" killed ' + ANN + '<Red>" with "x" (customkill "feign_death")'),
        at("02:00:08", '"Cal\x1b[31m\u202e<4><[U:1:74]><Blue>" killed ' + ANN + '<Red>" with "x"'),
        at("02:00:08", BEA + '<Blue>" triggered "kill assist" against ' + ANN + '<Red>" (position "1")'),
        at("02:00:09", BOT + '<Blue>" committed suicide with "world"'),
        at("02:00:10", BEA + '<Blue>" say_team "' + ANN[1:] + '<Red>" killed ' + CAL + '<Blue>" with "words"'),
        at("02:00:11", 'World triggered "Round_Win" (winner "Blue")'),
        at("02:00:11", 'World triggered "Round_Start"'),
        at("02:00:12", 'Team "Blue" triggered "pointcaptured" (cp "0") (player1 ' + BEA + '<Blue>") (position1 "1")'),
        at("02:00:12", ANN + '<Red>" triggered "flagevent" (event "captured") (position "1 2 3")'),
        at("02:00:12", 'rcon from "198.51.100.3:5": command "status"'),
        at("02:00:20", 'World triggered "Game_Over" reason "Reached Time Limit"'),
        at("02:00:21", ANN + '<Red>" killed ' + BEA + '<Blue>" with "humiliation"'),
        at("02:00:22", 'Team "Red" final score "1" with "1" players'),
        at("02:00:22", 'Team "Blue" final score "2" with "3" players'),
        at("02:00:23", "something new that nobody knows"),
        "",
        "no log line at all",
        at("02:00:30", ANN + '<Red>" kil'),
    ]
    return "\r\n".join(lines).encode()


def quake() -> bytes:
    lines = [
        "  0:00 ------",
        r"  0:00 InitGame: \gamename\baseoa\g_gametype\4\mapname\oa_ctf\g_timestamp\2026-03-14 20:00:00",
        r"  0:01 ClientUserinfoChanged: 0 n\Warm\t\1\model\x",
        "  0:02 Warmup:",
        r"  0:02 ClientUserinfoChanged: 1 n\Up\t\2\model\x",
        "  0:03 Kill: 0 1 3: Warm killed Up by MOD_RAILGUN",
        "  0:04 ShutdownGame:",
        r"  0:00 InitGame: \gamename\baseoa\g_gametype\4\mapname\oa_ctf\g_timestamp\2026-03-14 20:01:00",
        r"  0:01 ClientUserinfo: 0 \ip\192.0.2.1:5\name\Zo",
        "  0:01 ClientUserinfoChanged: 0 n\\Z\xf6 killed by\\t\\1\\model\\x",
        r"  0:01 ClientUserinfoChanged: 1 n\Yi: x <world>\t\2\model\x\id\00112233445566778899AABBCCDDEEFF",
        r"  0:01 ClientUserinfoChanged: 2 n\Bot\t\2\skill\4.0",
        r"  0:01 ClientUserinfoChanged: 3 n\Watcher\t\3",
        " 59:59 Kill: 0 1 3: Zo killed by killed Yi by MOD_RAILGUN",
        " 60:07 Kill: 1022 2 6: <world> killed Bot by MOD_FALLING",
        " 60:08 Kill: 1 2 6: Yi killed Bot by MOD_RAILGUN",
        "102:10 Kill: 2 2 6: Bot killed Bot by MOD_SUICIDE",
        "102:20 say: Zo: 102:30 Kill: 0 1 3: x killed y by MOD_RAILGUN",
        "102:21 CTF: 0 2 1: Zo captured the BLUE flag!",
        "102:22 ClientDisconnect: 0",
        "102:23 ClientConnect: 0",
        r"102:23 ClientUserinfoChanged: 0 n\New\t\1",
        "102:24 Kill: 2 0 3: Bot killed New by MOD_RAILGUN",
        "102:25 Exit: Capturelimit hit.",
        "102:25 red:1  blue:0",
        "102:25 score: 7  ping: 10  client: 0 New",
        "102:30 ShutdownGame:",
        r"  0:00 InitGame: \gamename\baseoa\mapname\oa_dm",
        r"  0:01 ClientUserinfoChanged: 5 n\Alone\t\0",
        "  0:09 Kill: 5 6 3: Alone killed Unseen by MOD_RAILGUN",
        "  0:1",
    ]
    return "\n".join(lines).encode("latin-1")


def xonotic() -> bytes:
    lines = [
        ":gamestart:dm_stormkeep:1.5",
        ":join:1:1:192.0.2.9:27960:Ulf",
        ":join:2:2:2001:db8:0:0:0:0:0:17:bad: name",
        ":join:3:3:2001:db8::a:beef: more",
        ":join:4:4:bot:[BOT]Vi",
        ":kill:frag:1:2:type=1",
        ":kill:frag:1:4:type=1",
        ":kill:frag:3:1:type=1",
        ":kill:accident:4:4:type=1",
        ":name:1:Ulf: again",
        ":gameover",
        ":scores:dm_stormkeep:300",
        ":labels:player:score!!,kills",
        ":player:see-labels:2,2:10:1:1:Ulf: again",
        ":player:see-labels:-1,0:10:1:2:bad: name",
        ":player:see-labels:1,1:10:1:3:beef: more",
        ":player:see-labels:0,0:10:1:4:[BOT]Vi",
        ":end",
        ":gamestart:ctf_cut:1.6",
        ":join:9:1:192.0.2.9:Win",
        ":team:9:5:1",
        ":kill:suicide:9:9:type=1",
    ]
    return "\n".join(lines).encode()


JSONL = b"""{"time_ms": 100, "player": "ann", "type": "kill"}
{"time_ms": 100, "player": "bea", "type": "death"}

{"time_ms": 90, "player": "ann", "type": "medal", "medal": "Perfect"}
{"time_ms": 300, "player": "bea", "type": "mode", "more": [1]}
{"time_ms": 400, "player": "no key", "type": "kill"}
{"time_ms": 500, "player": "bea", "type": "dance"}
{"time_ms": 600, "player": "be"""

LOGS = {"tf2": tf2(), "quake3": quake(), "xonotic": xonotic(), "jsonl": JSONL}


def imported(data: bytes, **origins: Any) -> tuple[list[ImportedMatch], FileImport]:
    """The matches in `data`, and the import with its figures."""
    found = FileImport(io.BytesIO(data), Origins("", written_wall_ms=WRITTEN_MS, **origins))
    return list(found), found


def state_of(match: ImportedMatch) -> MatchState:
    state = whole_log(match.events).projection
    assert isinstance(state, MatchState)
    return state


def stored(log: WholeLog) -> StoredLog:
    return StoredLog(log.last_seq + 1, log.head, log.segments)


def counted(state: MatchState) -> dict[str, tuple[str, int, int]]:
    """Display name, kills and deaths of each player; a local one's key without the match's name."""
    return {
        player.partition("@")[0]: (str(line.name or ""), line.kills, line.deaths)
        for player, line in state.players.items()
    }

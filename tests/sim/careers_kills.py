"""`python -m tests.sim.careers_kills --kills N [--start S]`: results lost or doubled while nodes die.

Plays the scenario of careers (`careers.py`) seed after seed, with several nodes of each match dying one after the
other, until so many were killed. After each seed the rows of `careers`, and the totals of players, are compared with
the logs by the very functions of `garrison stats rebuild --check` (`game/careers/recount.py`). Ends with one JSON line;
exit code 1 if anything was wrong.
"""

import argparse
import gc
import json
import sys
import time
from typing import Final, NamedTuple

import msgspec

from game.careers.events import Gain
from game.careers.recount import CareerRow, groundless, recounted, row_differences
from game.player.state import PlayerState
from persistence.game.player import CareerRows
from server.ids import actor_id
from tests.sim.careers import CareerPlay, played

KILLS_A_MATCH: Final = 6
PROGRESS_S: Final = 60.0
ABANDONED: Final = "aclose(): asynchronous generator is already running"
"""Complaint about a generator that a killed process leaves in the middle, when Python collects it here."""
OLDER: Final = "old"
"""The beginning of names of matches of which players came with results: no log is there of those."""


class Told(NamedTuple):
    """Outcome of a seed: nodes that were killed, results that are due, such as are lost or doubled, and all else that
    is wrong."""

    kills: int
    matches: int
    results: int
    lost: int
    doubled: int
    wrong: list[str]


def storm(seed: int, kills_a_match: int = KILLS_A_MATCH) -> Told:
    """Play a seed and compare."""
    wrong, done = played(seed, kills_a_match)
    return compared(done, [line for line in wrong if ABANDONED not in line])


def compared(done: CareerPlay, wrong: list[str]) -> Told:
    """The results of a run beside its logs: of players' totals, too, each that is too small is a loss."""
    done.keep_all()
    rows = career_rows(done)
    matches, results, lost, doubled = 0, 0, 0, 0
    due = dict.fromkeys(done.players, 0)
    left = set(rows)
    for (match, birth), log in done.kept.items():
        found = recounted(match.partition("/")[2], log)
        if found is None or found.is_open:
            wrong = [*wrong, f"{match} of {birth} has no results"]
            continue
        matches, results = matches + 1, results + len(found.rows)
        mine = [row for row in rows.values() if (row.match, row.birth) == (found.match, birth)]
        findings = row_differences(found, mine, told=True)
        wrong = [*wrong, *map(str, findings.differences)]
        lost += sum(each.what == "missing" for each in findings.differences)
        left -= {(row.player, row.match, row.birth) for row in mine if row.player in found.rows}
        for player in found.rows:
            due[player] += 1
    for key in left:
        wrong = [*wrong, *map(str, groundless(rows[key]).differences)]
        doubled += 1
    for player, count in due.items():
        row = done.world.database.entities[actor_id("player", player)]
        state = msgspec.msgpack.decode(row.state or b"\x80", type=PlayerState)
        lost += max(0, 1_000 + count - state.matches)
        doubled += max(0, state.matches - 1_000 - count)
    return Told(done.killed, matches, results, lost, doubled, wrong)


def career_rows(done: CareerPlay) -> dict[tuple[str, str, int], CareerRow]:
    """The rows of `careers` in the simulated store, without those that players came with."""
    found = {}
    for row in done.world.database.rows.values():
        named = dict(zip(CareerRows.columns, row, strict=True))
        gain = Gain(
            **{name: named[name] for name in Gain.__struct_fields__ if name != "names"},
            names=msgspec.json.decode(named["medal_names"]),
        )
        key = (named["player_id"], named["match_id"], named["birth"])
        if not key[1].startswith(OLDER):
            found[key] = CareerRow(*key, named["ended_wall_ms"], gain)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="kill nodes at every step of how results are told")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--start", type=int, default=1)
    options = parser.parse_args()
    gc.freeze()  # each seed collects all that is loaded, otherwise
    began = said = time.monotonic()
    sums, failed, seed = [0] * 5, list[int](), options.start
    while sums[0] < options.kills:
        told = storm(seed)
        sums = [count + more for count, more in zip(sums, told[:5], strict=True)]
        if told.wrong or told.lost or told.doubled:
            failed.append(seed)
            print(
                f"seed {seed}: {told.lost} lost, {told.doubled} doubled: {told.wrong[:5]}", file=sys.stderr, flush=True
            )
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            print(f"{sums[0]} kills in {seed - options.start + 1} seeds", file=sys.stderr, flush=True)
        seed += 1
    names = ("kills", "matches", "results", "lost", "doubled")
    figures = {"bench": "careers_kills", **dict(zip(names, sums, strict=True)), "seeds": seed - options.start}
    print(json.dumps({**figures, "failed": failed, "seconds": round(time.monotonic() - began, 1)}))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.sim.sweep --seeds N [--start S]`: the scenarios over many seeds.

`--scenario first|storm|both|successions` (both: the first two take turns; the first with a crash and, on every other of
its seeds, statements that get lost). Prints each failing seed with what was wrong, and ends with one
JSON line: `scenario, seeds, failed, virtual_hours, cluster_hours_per_hour, faults, seconds`, where
`failed` names scenario and seed. Exits 1 if any seed failed. `--jobs` processes share the seeds;
`--shuffle` also permutes tasks that are ready together; `--faults` is the chance that a statement to
the store goes wrong in the first scenario; `--digest` prints each seed's trace; `--show` prints the
faults and the last log lines of a failing seed, and with `--all` the faults of each.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from tests.sim import scenario, storm, successions

LOST_STATEMENTS = 0.05


PROGRESS = 500


class Result(NamedTuple):
    scenario: str
    seed: int
    virtual_s: float
    digest: str
    wrong: list[str]
    faults: list[str]
    logs: list[str]


def run_one(work: tuple[str, int], *, shuffle: bool, faults: float | None) -> Result:
    """Play one seed of one scenario."""
    which, seed = work
    if which == "storm":
        gone = storm.play(seed, storm.Options(prunes=seed % 4 == 1, watches=seed % 3 != 0), shuffle=shuffle)
        what = [f"journal: {gone.outcome.journal}", *gone.outcome.faults]
        return Result(which, seed, gone.virtual_s, gone.digest, gone.outcome.violations, what, gone.outcome.logs)
    if which == "successions":
        played = successions.play(seed, successions.turns_of(seed))
        return Result(which, seed, played.virtual_s, "", played.violations, ["turns", *played.done], played.logs)
    chance = faults if faults is not None else LOST_STATEMENTS * (seed % 4 == 0)
    done = scenario.play(seed, shuffle=shuffle, faults=chance)
    what = [f"crash {done.outcome.crashed}", f"statements lost: {chance}"]
    return Result(which, seed, done.virtual_s, done.digest, done.outcome.violations, what, done.outcome.logs)


def _work(which: str, seeds: range) -> Iterator[tuple[str, int]]:
    for seed in seeds:
        yield (("storm", "first")[seed % 2 == 0] if which == "both" else which, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description="simulate the cluster over many seeds")
    parser.add_argument("--scenario", choices=("first", "storm", "both", "successions"), default="both")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--faults", type=float, default=None, metavar="CHANCE")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--show", type=int, default=0, metavar="LINES")
    parser.add_argument("--all", action="store_true", help="with --show: the faults of each seed")
    options = parser.parse_args()
    seeds = range(options.start, options.start + options.seeds)
    play = partial(run_one, shuffle=options.shuffle, faults=options.faults)
    begin, virtual_s, faults, failed = time.monotonic(), 0.0, 0, list[str]()
    with multiprocessing.Pool(options.jobs, maxtasksperchild=200) as pool:
        work = _work(options.scenario, seeds)
        results = pool.imap(play, work, chunksize=4) if options.jobs > 1 else map(play, work)
        for number, result in enumerate(results, 1):
            if number % PROGRESS == 0:
                print(f"{number} of {len(seeds)} seeds, {len(failed)} failed", file=sys.stderr, flush=True)
            virtual_s += result.virtual_s
            faults += len(result.faults) - 1
            if options.digest:
                print(result.scenario, result.seed, result.digest)
            if result.wrong:
                failed.append(f"{result.scenario} {result.seed}")
            if result.wrong or (options.all and options.show):
                _tell(result, options.show)
    if not options.digest:
        _sum_up(options.scenario, len(seeds), failed, virtual_s, faults, time.monotonic() - begin)
    return 1 if failed else 0


def _tell(result: Result, lines: int) -> None:
    print(f"{result.scenario} {result.seed} {'failed' if result.wrong else 'passed'}:", file=sys.stderr)
    for line in [*(result.faults if lines else []), *(result.logs[-lines:] if lines and result.wrong else [])]:
        print(f"  {line}", file=sys.stderr)
    for line in result.wrong[:20]:
        print(f"  {line}", file=sys.stderr)


def _sum_up(which: str, seeds: int, failed: list[str], virtual_s: float, faults: int, seconds: float) -> None:
    print(
        json.dumps(
            {
                "scenario": which,
                "seeds": seeds,
                "failed": failed,
                "faults": faults,
                "virtual_hours": round(virtual_s / 3600, 3),
                "cluster_hours_per_hour": round(virtual_s / max(seconds, 1e-9), 1),
                "seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.sim.sweep --seeds N [--start S]`: the scenario over many seeds.

Prints each failing seed with what was wrong, and ends with one JSON line: `seeds, failed,
virtual_hours, cluster_hours_per_hour, seconds`. Exits 1 if any seed failed. `--jobs` processes
share the seeds; `--shuffle` also permutes tasks that are ready together; `--faults` is the chance
that a statement to the store goes wrong; `--digest` prints each
seed's trace; `--show` prints the last log lines of a failing seed.
"""

import argparse
import json
import multiprocessing
import sys
import time
from functools import partial
from typing import NamedTuple

from tests.sim.scenario import play


class Result(NamedTuple):
    seed: int
    virtual_s: float
    digest: str
    wrong: list[str]
    logs: list[str]


def run_one(seed: int, *, shuffle: bool, faults: float) -> Result:
    """One seed."""
    played = play(seed, shuffle=shuffle, faults=faults)
    return Result(seed, played.virtual_s, played.digest, played.outcome.violations, played.outcome.logs)


def main() -> int:
    parser = argparse.ArgumentParser(description="simulate the cluster over many seeds")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--shuffle", action="store_true")
    parser.add_argument("--faults", type=float, default=0.0, metavar="CHANCE")
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--show", type=int, default=0, metavar="LINES")
    options = parser.parse_args()
    seeds = range(options.start, options.start + options.seeds)
    work = partial(run_one, shuffle=options.shuffle, faults=options.faults)
    begin, virtual_s, failed = time.monotonic(), 0.0, list[int]()
    with multiprocessing.Pool(options.jobs, maxtasksperchild=50) as pool:
        for result in pool.imap(work, seeds) if options.jobs > 1 else map(work, seeds):
            virtual_s += result.virtual_s
            if options.digest:
                print(result.seed, result.digest)
            if result.wrong:
                failed.append(result.seed)
                _tell(result, options.show)
    if not options.digest:
        _sum_up(len(seeds), failed, virtual_s, time.monotonic() - begin)
    return 1 if failed else 0


def _tell(result: Result, lines: int) -> None:
    print(f"seed {result.seed} failed:", file=sys.stderr)
    for line in [*result.logs[-lines:][: lines or None], *result.wrong[:20]] if lines else result.wrong[:20]:
        print(f"  {line}", file=sys.stderr)


def _sum_up(seeds: int, failed: list[int], virtual_s: float, seconds: float) -> None:
    print(
        json.dumps(
            {
                "seeds": seeds,
                "failed": failed,
                "virtual_hours": round(virtual_s / 3600, 3),
                "cluster_hours_per_hour": round(virtual_s / max(seconds, 1e-9), 1),
                "seconds": round(seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())

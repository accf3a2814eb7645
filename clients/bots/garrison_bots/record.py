"""`python -m garrison_bots.record`: a made-up match as a recording, JSON lines on standard output.

The file `clients/bots/recordings/slayer.jsonl` is its output for seed 1.
"""

import json
import random
import sys
from collections.abc import Iterator

from garrison.messages import Kill, Medal
from garrison_bots.generate import generate

PLAYERS = 8
LENGTH_MS = 480_000


def lines(seed: int) -> Iterator[str]:
    """A match of two teams, one JSON object an event, in the order of the match clock."""
    teams = {f"spartan-{number + 1}": number % 2 for number in range(PLAYERS)}
    for event in generate(teams, LENGTH_MS, random.Random(seed)):
        if isinstance(event, Kill):
            yield _line(event.time_ms, event.player, "kill")
            if event.victim is not None:
                yield _line(event.time_ms, event.victim, "death")
        elif isinstance(event, Medal):
            yield _line(event.time_ms, event.player, "medal", medal=event.medal)


def _line(time_ms: int, player: str, kind: str, **more: str) -> str:
    return json.dumps({"time_ms": time_ms, "player": player, "type": kind, **more})


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    sys.stdout.writelines(f"{line}\n" for line in lines(seed))

"""A process that appends to its local journal until it is killed, and says what it has appended:

    python -m tests.support.journal_writer DIRECTORY CLUSTER NODE [--truncate] [--child]

It prints `place PLACE`, then `KEY VERSION` after each append. `--truncate`: what is 500 changes
old counts as stored. `--child`: it has a child process that outlives it, and prints its id first.
"""

import asyncio
import subprocess
import sys

from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.local import LocalJournal
from tests.support.journals import Entity, run


def child() -> int:
    return subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid


async def main(directory: str, cluster: str, node: str, *options: str) -> None:
    settings = JournalSettings(directory=directory, segment_bytes=65_536, segments=4)
    journal = LocalJournal(settings, cluster, run(node).node, Metrics())
    await journal.prepare()
    await journal.open(run(node))
    if "--child" in options:
        print("child", child(), flush=True)
    print("place", journal.place, flush=True)
    entities = [Entity(f"p{number}") for number in range(7)]
    for coins in range(10**9):
        entity = entities[coins % 7]
        entity.change(journal, coins, "n" * (coins % 300))
        print(entity.id, entity.version, flush=True)
        if "--truncate" in options:
            journal.truncate(max(1, journal.position - 500))
        elif journal.fill > 0.6:
            journal.truncate(journal.position - 7)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

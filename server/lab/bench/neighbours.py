"""The neighbours of `friends`: sessions that send a heartbeat each a few times a second, however the others fare.

Each has its own times. A beat that could not be sent in time, because the session's last one was not answered yet,
counts from when it was due; one session's wait is not counted again for another. So what is measured is how long a
client waits, and not how many beats a row of them would have got done.

Takes one JSON line of `SteadyBeats` on standard input and says `{}`; then, for each number of seconds, answers with one
JSON line of `Measured`.
"""

import heapq
import os
import selectors
import statistics
import sys
import time
from typing import Final

import msgspec

from server.lab.bench.beats import TIMEOUT_S, BeatingSession, Measured


class SteadyBeats(msgspec.Struct, frozen=True):
    """`tokens`: one a session. `every_s`: from one beat of a session to its next."""

    url: str
    tokens: list[str]
    cpus: list[int]
    every_s: float


MS: Final = 1e3


def measure(sessions: list[BeatingSession], seconds: float, every_s: float) -> Measured:
    """Beat for so long, and until all beats are answered."""
    begin = time.perf_counter()
    end = begin + seconds
    idle = [(begin + every_s * number / len(sessions), number) for number in range(len(sessions))]
    times: list[float] = []
    due_at: dict[int, float] = {}
    with selectors.DefaultSelector() as selector:
        for number, session in enumerate(sessions):
            selector.register(session, selectors.EVENT_READ, number)
        while True:
            now = time.perf_counter()
            while idle and idle[0][0] <= now and idle[0][0] < end:
                due, number = heapq.heappop(idle)
                due_at[number] = due
                sessions[number].send()
            if not due_at and (not idle or idle[0][0] >= end):
                break
            if now > end + TIMEOUT_S:
                raise SystemExit(f"{len(due_at)} heartbeats were not answered")
            wait_s = max(0.0, idle[0][0] - now) if idle and idle[0][0] < end else TIMEOUT_S
            for key, _ in selector.select(wait_s):
                if sessions[key.data].receive():
                    due = due_at.pop(key.data)
                    times.append((time.perf_counter() - due) * MS)
                    heapq.heappush(idle, (due + every_s, key.data))
    p99 = sorted(times)[len(times) * 99 // 100]
    return Measured(len(times), statistics.median(times), p99, p99, max(times))


def main() -> None:
    neighbours = msgspec.json.decode(sys.stdin.readline(), type=SteadyBeats)
    os.sched_setaffinity(0, neighbours.cpus)
    sessions = [BeatingSession(neighbours.url, token) for token in neighbours.tokens]
    print("{}", flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(measure(sessions, float(line), neighbours.every_s)).decode(), flush=True)


if __name__ == "__main__":
    main()

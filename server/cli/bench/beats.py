"""The neighbour of `neighbour`: a few sessions that send heartbeats in turn, at a fixed pace, one at
a time, over plain blocking sockets, so that what is measured is the server.

Each round trip is measured twice: by the clock, and by the processor time that the serving process
took meanwhile. On a processor of its own the second is what the neighbour waits for; unlike the
first it does not count what other programs take on this machine. By the clock, a beat that could
not begin in time because the one before was late counts from when it was due.
Takes one JSON line of `Neighbour` on standard input and says `ready`; then, for each number of
seconds, answers with one JSON line of `Measured`.
"""

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from server.cli.bench.raw_socket import address, handshake, message

PACE_S: Final = 0.0015
TIMEOUT_S: Final = 20.0
_BEAT: Final = message("heartbeat", 1, 0, None)
_ANSWER: Final = b"\x82\x07" + msgspec.msgpack.encode(["beat", 1])


class Neighbour(msgspec.Struct, frozen=True):
    """`tokens`: one a session; enough of them to stay below the rate limit. `pid`: who serves."""

    url: str
    pid: int
    tokens: list[str]
    cpus: list[int]


class Measured(msgspec.Struct, frozen=True):
    """Round trips of heartbeats, in ms by the clock (`p50_ms` …) and of the serving processor."""

    beats: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    served_p50_ms: float
    served_p99_ms: float
    served_max_ms: float


class Session:
    """One welcomed session."""

    def __init__(self, url: str, token: str) -> None:
        self._socket = socket.create_connection(address(url), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(handshake())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self._some()
        self._socket.sendall(message("hello", 1, token, None, 0, "neighbour", False))
        if b"welcome" not in self._some():
            raise SystemExit("the neighbour was not let in")

    def beat(self) -> None:
        """One round trip."""
        self._socket.sendall(_BEAT)
        answer = self._some()
        while len(answer) < len(_ANSWER):
            answer += self._some()
        if answer != _ANSWER:
            raise SystemExit(f"the neighbour got {answer[:200]!r}")

    def _some(self) -> bytes:
        data = self._socket.recv(4_096)
        if not data:
            raise SystemExit("the neighbour was thrown out")
        return data


def processor_clock(pid: int) -> Callable[[], int]:
    """The processor time of a process, in ns (clock_getcpuclockid(3), which Python lacks)."""
    clock = ~pid << 3 | 2
    return lambda: time.clock_gettime_ns(clock)


def measure(sessions: list[Session], seconds: float, served: Callable[[], int]) -> Measured:
    """Beat for so long."""
    times: list[float] = []
    costs: list[float] = []
    due = begin = time.perf_counter()
    while due < begin + seconds:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
            sent = time.perf_counter()
        else:
            sent = due
        before = served()
        sessions[len(times) % len(sessions)].beat()
        costs.append((served() - before) / 1e9)
        times.append(time.perf_counter() - sent)
        due += PACE_S
    return Measured(len(times), *_spread(times), *_spread(costs))


def _spread(seconds: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum, in ms."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3, ordered[-1] * 1e3


def main() -> None:
    neighbour = msgspec.json.decode(sys.stdin.readline(), type=Neighbour)
    os.sched_setaffinity(0, neighbour.cpus)
    sessions = [Session(neighbour.url, token) for token in neighbour.tokens]
    served = processor_clock(neighbour.pid)
    print("{}", flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(measure(sessions, float(line), served)).decode(), flush=True)


if __name__ == "__main__":
    main()

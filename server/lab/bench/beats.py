"""The neighbour of `neighbour`: a few sessions that send heartbeats in turn, at a fixed pace, one at
a time, over plain blocking sockets, so that what is measured is the server.

A beat that could not begin in time, because the one before was late, counts from when it was due.
The percentile is taken of each stretch of `STRETCH` beats, and of those the median, so that what
other programs do to this machine now and then counts little. What happens all the time counts.
Takes one JSON line of `Neighbour` on standard input and says `ready`; then, for each number of
seconds, answers with one JSON line of `Measured`.
"""

import os
import socket
import statistics
import sys
import time
from typing import Final

import msgspec

from server.lab.bench.raw_socket import address, handshake, message

PACE_S: Final = 0.0015
STRETCH: Final = 200
TIMEOUT_S: Final = 20.0
_BEAT: Final = message("heartbeat", 1, 0, None)
_ANSWER: Final = b"\x82\x07" + msgspec.msgpack.encode(["beat", 1])


class Neighbour(msgspec.Struct, frozen=True):
    """`tokens`: one a session; enough of them to stay below the rate limit. `pace_s`: from one beat to the next."""

    url: str
    tokens: list[str]
    cpus: list[int]
    pace_s: float = PACE_S


class Measured(msgspec.Struct, frozen=True):
    """Round trips of heartbeats. `p99_ms`: of a stretch; `all_p99_ms`: of all together."""

    beats: int
    p50_ms: float
    p99_ms: float
    all_p99_ms: float
    max_ms: float


class BeatingSession:
    """A welcomed session on a blocking socket."""

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
        self._answer = b""

    def fileno(self) -> int:
        """The descriptor of its socket, for a selector."""
        return self._socket.fileno()

    def beat(self) -> None:
        """Send a heartbeat and wait for its answer."""
        self.send()
        while not self.receive():
            pass

    def send(self) -> None:
        """Send a heartbeat."""
        self._socket.sendall(_BEAT)

    def receive(self) -> bool:
        """Read what has come, or comes first. True: the heartbeat is answered."""
        self._answer += self._some()
        if len(self._answer) < len(_ANSWER):
            return False
        answer, self._answer = self._answer, b""
        if answer != _ANSWER:
            raise SystemExit(f"the neighbour got {answer[:200]!r}")
        return True

    def _some(self) -> bytes:
        data = self._socket.recv(4_096)
        if not data:
            raise SystemExit("the neighbour was thrown out")
        return data


def measure(sessions: list[BeatingSession], seconds: float, pace_s: float) -> Measured:
    """Beat for so long."""
    times: list[float] = []
    due = begin = time.perf_counter()
    while due < begin + seconds:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
            sent = time.perf_counter()
        else:
            sent = due
        sessions[len(times) % len(sessions)].beat()
        times.append((time.perf_counter() - sent) * 1e3)
        due += pace_s
    stretches = [times[start : start + STRETCH] for start in range(0, max(1, len(times) - STRETCH + 1), STRETCH)]
    return Measured(
        len(times), statistics.median(times), statistics.median(map(_p99, stretches)), _p99(times), max(times)
    )


def _p99(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


def main() -> None:
    neighbour = msgspec.json.decode(sys.stdin.readline(), type=Neighbour)
    os.sched_setaffinity(0, neighbour.cpus)
    sessions = [BeatingSession(neighbour.url, token) for token in neighbour.tokens]
    print("{}", flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(measure(sessions, float(line), neighbour.pace_s)).decode(), flush=True)


if __name__ == "__main__":
    main()

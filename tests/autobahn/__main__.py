"""`python -m tests.autobahn PYTHON2`: the server cases of Autobahn's test suite, played against the production driver
under a receiver that echoes.

The suite's program, `wstest`, runs under Python 2.7 only: `PYTHON2` is such an interpreter, with the suite in the
directory `SITE` (`make autobahn` finds one and installs it). A gateway has two subprotocols, one for binary messages,
one for text, and refuses the other kind with 1003, which the RFC allows (7.4.1). So every case is played under both,
and is judged by the one that takes its messages: the better outcome counts. Exits with 1 where a case fails that
`EXCEPTIONS` does not name, or cases are missing.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop

from server.runtime.metrics import Metrics
from server.sessions.connection import Connection, Receiver
from server.sessions.picows_driver import PicowsListener
from server.settings import GatewaySettings
from server.wire.codec import Format

SUBPROTOCOLS: Final[dict[Format, str]] = {"msgpack": "garrison.v1.msgpack", "json": "garrison.v1.json"}
LEFT_OUT: Final = ("9.*", "12.*", "13.*")
"""Limits and performance, with messages of up to 16 MiB, which no gateway takes; compression, which is not offered."""
CASES: Final = 247
MAX_FRAME_BYTES: Final = 1024 * 1024
NEWEST_PING: Final = (
    "of pings that come together the newest is answered, as RFC 6455 allows (5.5.3); ten pongs are expected"
)
EXCEPTIONS: Final = {"2.10": NEWEST_PING, "2.11": NEWEST_PING}
"""Cases that may fail, each with the reason; docs/protocol.md says the same."""
RANK: Final = (
    "OK",
    "INFORMATIONAL",
    "NON-STRICT",
    "UNIMPLEMENTED",
    "UNCLEAN",
    "WRONG CODE",
    "FAILED BY CLIENT",
    "FAILED",
)
GOOD: Final = RANK[:3]
TIMEOUT_S: Final = 600.0
START: Final = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"


class Echo(Receiver):
    """Sends every message back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def on_message(self, data: bytes) -> None:
        self._connection.send(data)

    def on_control(self, connection: Connection) -> None: ...

    def on_blocked(self, connection: Connection) -> None: ...

    def on_writable(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection, code: int, reason: str) -> None: ...


class Echoes:
    """The acceptor in place of a gateway: a connection is welcome as soon as it is open."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    def accept(self, connection: Connection) -> Receiver:
        asyncio.get_running_loop().call_soon(connection.welcomed)
        return Echo(connection)


async def play(python2: str, site: str, reports: Path, cases: list[str]) -> dict[str, dict[str, str]]:
    """The outcome of each case under each subprotocol, by format."""
    listener = PicowsListener(Echoes(), GatewaySettings(port=0, max_frame_bytes=MAX_FRAME_BYTES))
    url = await listener.start()
    specification = {
        "outdir": str(reports),
        "servers": [
            {"agent": format, "url": url, "protocols": [name], "options": {"version": 18}}
            for format, name in SUBPROTOCOLS.items()
        ],
        "cases": cases,
        "exclude-cases": list(LEFT_OUT),
        "exclude-agent-cases": {},
    }
    spec = reports / "spec.json"
    spec.write_text(json.dumps(specification))
    words = [python2, "-c", START, site, "-m", "fuzzingclient", "-s", str(spec)]
    suite = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await suite.communicate()
    except TimeoutError:
        suite.kill()
        await suite.wait()
        raise SystemExit(f"autobahn: the suite is not done after {TIMEOUT_S:.0f} s") from None
    finally:
        await listener.stop()
    index = reports / "index.json"
    if not index.is_file():
        raise SystemExit(
            f"autobahn: the suite has made no report; its last words:\n{said.decode(errors='replace')[-2000:]}"
        )
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(index.read_text())
    return {format: {case: outcome(told) for case, told in cases.items()} for format, cases in found.items()}


def outcome(told: dict[str, Any]) -> str:
    """The worse one of what a case says of behaviour and of the close."""
    words = [told["behavior"], told["behaviorClose"]]
    return max(words, key=lambda word: RANK.index(word) if word in RANK else len(RANK))


def best_of(found: dict[str, dict[str, str]]) -> dict[str, str]:
    """Each case's better outcome, in the order of their numbers."""
    names = sorted({case for cases in found.values() for case in cases}, key=lambda case: [*map(int, case.split("."))])
    rank = {word: place for place, word in enumerate(RANK)}
    return {name: min((cases[name] for cases in found.values()), key=lambda word: rank.get(word, 99)) for name in names}


def complaints(best: dict[str, str], wanted: int) -> list[str]:
    """What is wrong, a line each."""
    wrong = [f"case {case}: {word}" for case, word in best.items() if word not in GOOD and case not in EXCEPTIONS]
    if wanted and len(best) != wanted:
        wrong.append(f"{len(best)} cases were played, not {wanted}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Autobahn's server cases against the gateway's driver")
    parser.add_argument("python2", help="a Python 2.7")
    parser.add_argument("site", help="the directory with the suite")
    parser.add_argument("--cases", nargs="*", default=["*"], help="such as 3.*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as reports:
        found = uvloop.run(play(options.python2, options.site, Path(reports), options.cases))
    best = best_of(found)
    counts = Counter(best.values())
    print(
        f"autobahn: {len(best)} cases: " + ", ".join(f"{count} {word.lower()}" for word, count in counts.most_common())
    )
    for case, word in best.items():
        if word != "OK":
            print(f"  {case} {word.lower()}{': ' + EXCEPTIONS[case] if case in EXCEPTIONS else ''}")
    wrong = complaints(best, CASES if options.cases == ["*"] else 0)
    for line in wrong:
        print(f"autobahn: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

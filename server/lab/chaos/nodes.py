"""The nodes of a chaos run as their metrics and logs show them."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

ANSWER_S: Final = 2.0
MAX_ANSWER: Final = 4 * 1024 * 1024
FENCED: Final = "activation fenced off"
_SAMPLE: Final = re.compile(r"^garrison_(\w+)\{[^}]*\} ([0-9.eE+-]+)$", re.MULTILINE)


class WithReadiness(Protocol):
    """A process of a node; `ready`: its line of readiness."""

    @property
    def ready(self) -> dict[str, Any]: ...


class Counters:
    """Totals over all processes and incarnations that ever ran, as far as they were read: a counter
    that falls belongs to a new one."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}
        self._last: dict[tuple[str, str], float] = {}

    def add(self, node: str, values: dict[str, float]) -> None:
        """Add what `node` has counted since it was asked last. A counter that fell was begun anew by a new run."""
        for name, value in values.items():
            if name.endswith("_total"):
                before = self._last.get((node, name), 0.0)
                grown = value - before if value >= before else value
                self.totals[name] = self.totals.get(name, 0.0) + grown
                self._last[node, name] = value

    def __getitem__(self, name: str) -> int:
        return int(self.totals.get(name, 0))


async def metrics(node: WithReadiness) -> dict[str, float]:
    """The counters of a node, by name without the prefix; empty if it does not answer."""
    status, body = await _get(node.ready.get("admin_url", ""), "/metrics")
    return {name: float(value) for name, value in _SAMPLE.findall(body)} if status == 200 else {}


async def is_ready(node: WithReadiness) -> bool:
    """Whether it serves."""
    return (await _get(node.ready.get("admin_url", ""), "/readyz"))[0] == 200


async def progress_of(node: WithReadiness, token: str) -> dict[str, Any]:
    """How far its upgrade is, as its admin API tells; empty if it does not answer."""
    header = f"Authorization: Bearer {token}\r\n"
    status, body = await _get(node.ready.get("admin_url", ""), "/api/v1/upgrade", header)
    told: dict[str, Any] = json.loads(body) if status == 200 else {}
    return told


async def _get(base: str, path: str, header: str = "") -> tuple[int, str]:
    """Status and body of a plain request; (0, "") for no answer."""
    parts = urlsplit(base)
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(parts.hostname or "", parts.port or 0)
            try:
                writer.write(
                    f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n{header}Connection: close\r\n\r\n".encode()
                )
                answer = await reader.read(MAX_ANSWER)
                while answer and (more := await reader.read(MAX_ANSWER)):
                    answer += more
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return 0, ""
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    words = head.split(maxsplit=2)
    return (int(words[1]), body) if len(words) > 1 and words[1].isdecimal() else (0, "")


def fenced_writes(logs: list[Path]) -> int:
    """Writes that the store refused, as the nodes wrote into their logs: every one of every process."""
    count = 0
    for log in logs:
        try:
            with log.open(encoding="utf-8", errors="replace") as lines:
                count += sum(FENCED in line for line in lines)
        except OSError:
            continue  # the node never ran
    return count

"""The golden samples and what is expected of them, read from `samples/`; what was made of them by whom
tells `maker/make_samples.py`."""

import json
import sqlite3
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.golden import faces
from tests.golden.app import App

SAMPLES = Path(__file__).parent / "samples"
SDK = SAMPLES / "sdk_7cd968a.zip"
KEY = "the golden samples' signing key: 32 bytes or more"
CLUSTER = "golden"
WALL_MS = 1_750_000_000_000
"""The time of the samples; their clock stood still."""
FAR_MS = 4_102_444_800_000
IDS: dict[str, list[str]] = {
    "player": [f"player/{name}" for name in ("ann", "bob", "cyd", "dan", "eve", "nobody")],
    "match": [f"match/{name}" for name in ("m-ended", "m-recorded", "m-live", "m-nowhere")],
    "purse": [f"purse/{name}" for name in ("red", "blue", "green", "none")],
    "tally": [f"tally/{name}" for name in ("t-open", "t-done")],
}


@cache
def expected(name: str) -> dict[str, Any]:
    """The facts of sample `name`, as the old code recorded them."""
    return parsed(f"{name}.expected", "expected")


@cache
def parsed(archive: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file(archive, f"{name}.json"))
    return found


def file(archive: str, name: str) -> bytes:
    with zipfile.ZipFile(SAMPLES / f"{archive}.zip") as packed:
        return packed.read(name)


def unpack(name: str, folder: Path) -> str:
    """A copy of sample `name` in `folder`; the url of its SQLite database. A lease of the sample's that still
    runs, because this machine's clock is behind, is over."""
    with zipfile.ZipFile(SAMPLES / f"{name}.zip") as packed:
        packed.extractall(folder)
    path = folder / "garrison.db"
    if time.time() < made_at(name):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE nodes SET lease_until = 1 WHERE lease_until IS NOT NULL")
    return f"sqlite:///{path}"


def made_at(name: str) -> float:
    """Seconds since 1970 after which no lease of the sample runs any more."""
    at: float = expected(name)["made_at"]
    return at + 60


def settings(node: str, url: str, journal: dict[str, Any] | None = None, **tree: Any) -> faces.Settings:
    """Settings of a node that stores nothing but what it takes over."""
    base: dict[str, Any] = {
        "node": node,
        "cluster": CLUSTER,
        "app": "tests.golden.app:App",
        "store": {
            "url": url,
            "flush_interval_s": 3_600.0,
            "max_dirty_age_s": 7_200.0,
            "flush_at_stop": False,
        },
        "gateway": {"port": 0},
        "admin": {"enabled": False},
        "journal": journal or {},
        "security": {"signing_key": KEY},
        "log": {"level": "warning"},
    }
    for name, value in tree.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return faces.from_tree(base)


def token(subject: str, role: str = "player") -> str:
    return faces.issue(KEY.encode(), subject, role, 3_600.0, time.time_ns() // 1_000_000)


@asynccontextmanager
async def running(made: faces.Settings) -> AsyncIterator[Any]:
    """A node of today."""
    node = faces.build_node(made)
    await node.start()
    try:
        yield node
    finally:
        await node.stop()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    """The store of today."""
    store = faces.build_store(settings("reader", url), App)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def plain(value: Any) -> Any:
    """As JSON has it; bytes in base64."""
    return json.loads(msgspec.json.encode(value, enc_hook=faces.to_plain))


async def rows(url: str) -> dict[str, Any]:
    """Stored states by id: epoch, version, state."""
    found: dict[str, Any] = {}
    async with opened(url) as store:
        for kind in ("player", "purse"):
            for identity, stored in (await store.read(kind, [faces.ActorId(name) for name in IDS[kind]])).items():
                assert not isinstance(stored.state, Exception), stored.state
                found[identity] = {
                    "epoch": stored.state_epoch,
                    "version": stored.state_version,
                    "state": plain(stored.state),
                }
    return found


def says(now: list[Any], then: list[Any]) -> bool:
    """Whether an answer of now is that of then, perhaps with places more at its end."""
    return now[: len(then)] == then


def has(now: Any, then: Any) -> bool:
    """Whether `now` says all that `then` said: fields and places may have been added since, nothing else."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(key in now and has(now[key], value) for key, value in then.items())
    if isinstance(then, list) and then and all(isinstance(some, list) for some in then):  # structs as arrays
        return isinstance(now, list) and len(now) == len(then) and all(map(_begins, now, then))
    return bool(now == then)


def _begins(now: Any, then: list[Any]) -> bool:
    """Whether a struct has the places that it had, and maybe more."""
    return isinstance(now, list) and now[: len(then)] == then

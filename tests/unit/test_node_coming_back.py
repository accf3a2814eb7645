"""A node that comes back as a new incarnation outlasts what cannot be read just then."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from server.cli import node as command
from server.cli import succeeding
from server.errors import BadSetting, Unavailable
from server.settings import Settings, from_tree

pytestmark = pytest.mark.virtual_time
SETTINGS = from_tree({"admin": {"enabled": False}})


def ended_node() -> Any:
    """A node that has served, and has lost its lease since."""
    ended, serves = asyncio.Event(), asyncio.Event()
    ended.set()

    async def done() -> None: ...

    return SimpleNamespace(
        start=done, stop=done, ended=ended, serves=serves, is_foreign=False, drain_progress=lambda: {"state": "serving"}
    )


async def serve(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> int:
    stop = asyncio.Event()

    def build(_settings: Settings, _querying: object = None) -> Any:
        made = built.pop(0)
        if not built:
            stop.set()
        if isinstance(made, Exception):
            raise made
        return made

    async def nothing() -> None: ...

    monkeypatch.setattr(command, "build_node", build)
    monkeypatch.setattr(command, "collect_all", lambda: None)  # all that the tests have made would be looked at
    monkeypatch.setattr(succeeding, "let_be_upgraded", lambda *_: SimpleNamespace(stop=nothing))
    return await command._serve(SETTINGS, SimpleNamespace(stop=stop), [])


async def test_a_key_file_that_is_spoiled_meanwhile_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = BadSetting("security.token_key_files", "planted")
    assert await serve([ended_node(), spoiled, spoiled, ended_node()], monkeypatch) == 0


async def test_a_first_start_with_a_bad_setting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSetting, match="planted"):
        await serve([BadSetting("security.token_key_files", "planted")], monkeypatch)


async def test_an_heir_whom_the_store_refuses_starts_anew_once_its_predecessor_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Refused:
        phase = "serving"

        def __init__(self, *_: Any) -> None: ...

        async def run(self) -> None:
            raise Unavailable("the store has another process for this run, or it is over")

    async def take_its_place() -> None:
        done.append("it is gone")

    lineage: Any = SimpleNamespace(
        channel=None,
        take_outputs=lambda: None,
        kill_predecessor=lambda: done.append("it is killed"),
        take_its_place=take_its_place,
    )
    monkeypatch.setattr(succeeding, "build_node", lambda _settings: None)
    monkeypatch.setattr(succeeding, "SocketChannel", lambda _channel: None)
    monkeypatch.setattr(succeeding, "Heir", Refused)
    monkeypatch.setattr(succeeding, "_start_anew", lambda _environment: done.append("anew"))
    with pytest.raises(Unavailable):  # the program that it becomes does not come back here
        await succeeding.succeed(SETTINGS, lineage)
    assert done == ["it is killed", "it is gone", "anew"]

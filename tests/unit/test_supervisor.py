"""The tasks of a node end with it, whatever they do about it."""

import asyncio

import pytest

from server.runtime.supervisor import END_S, Supervisor

pytestmark = pytest.mark.virtual_time


async def _stubborn(over: asyncio.Event) -> None:
    """Ends when it is `over`, and not before."""
    while not over.is_set():
        try:
            await over.wait()
        except asyncio.CancelledError:
            continue


async def test_a_task_that_does_not_end_is_left_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    tasks, over = Supervisor("n"), asyncio.Event()

    async def polite() -> None:
        await over.wait()

    kept, ended = tasks.spawn(_stubborn(over), "turn counter/x"), tasks.spawn(polite(), "other")
    await asyncio.sleep(0)
    async with asyncio.timeout(2 * END_S):
        await tasks.stop()
    assert ended.cancelled() and not kept.done() and tasks.names() == ["n:turn counter/x"]
    assert "n:turn counter/x" in capsys.readouterr().out
    over.set()
    await kept


async def test_a_stop_that_is_given_up_ends_at_once() -> None:
    tasks, over = Supervisor("n"), asyncio.Event()

    kept = tasks.spawn(_stubborn(over), "turn")
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(tasks.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    done, _ = await asyncio.wait([stopping], timeout=5)
    assert done == {stopping} and not kept.done()
    over.set()
    await kept


async def test_tasks_begun_by_an_ending_task_are_ended_too() -> None:
    tasks = Supervisor("n")
    begun: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.Event().wait()

    async def begins() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            begun.append(tasks.spawn(later(), "later"))

    tasks.spawn(begins(), "begins")
    await asyncio.sleep(0)
    await tasks.stop()
    assert begun[0].cancelled() and len(tasks) == 0

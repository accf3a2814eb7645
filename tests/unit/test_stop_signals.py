"""Signals that ask a process to stop, which a predecessor hands on to its heir."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from server.cli.stop_signals import STOPPING, StopSignals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.loops("asyncio", "uvloop")
async def test_a_signal_is_known_at_once_and_the_loop_hears_of_it_later() -> None:
    signals = StopSignals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.came == [signal.SIGTERM] and not signals.stop.is_set()
    await signals.stop.wait()


async def test_a_signal_is_passed_on_where_one_came() -> None:
    signals = StopSignals()
    heir = await asyncio.create_subprocess_exec("sleep", "60")
    signals.pass_on(heir.pid)
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.came == [signal.SIGINT] and heir.returncode is None
    signals.pass_on(heir.pid)
    assert await heir.wait() == -signal.SIGTERM
    signals.pass_on(heir.pid)

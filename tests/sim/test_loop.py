"""The simulated loop on its own."""

import asyncio
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.sim.loop import (
    DOMAIN,
    Deadlock,
    Domain,
    NotSimulated,
    OutOfBounds,
    SimLoop,
    TasksLeft,
    Trace,
    Unhandled,
    simulate,
)

ROOT = Path(__file__).resolve().parents[2]


def test_time_jumps_to_the_next_timer() -> None:
    async def main(loop: SimLoop) -> list[float]:
        seen = [loop.time()]
        await asyncio.sleep(1000.5)
        seen.append(loop.time())
        await asyncio.sleep(0)
        seen.append(loop.time())
        return seen

    run = simulate(1, main)
    assert run.result == [0.0, 1000.5, 1000.5]
    assert run.virtual_s == 1000.5


def test_timers_of_equal_time_run_in_order_of_creation() -> None:
    async def main(loop: SimLoop) -> bool:
        seen: list[int] = []
        order = list(range(200))
        random.Random(3).shuffle(order)
        for number in order:
            loop.call_at(5.0, seen.append, number)
        loop.call_at(4.0, seen.append, -1)
        await asyncio.sleep(6)
        return seen == [-1, *order]

    assert simulate(1, main).result


def test_cancelled_timers_do_not_run_nor_hold_time_back() -> None:
    async def main(loop: SimLoop) -> tuple[float, list[int]]:
        seen: list[int] = []
        loop.call_later(1, seen.append, 1).cancel()
        loop.call_later(3, seen.append, 3).cancel()
        await asyncio.sleep(2)
        return loop.time(), seen

    run = simulate(1, main)
    assert run.result == (2.0, [])
    assert run.virtual_s == 2.0


def test_asyncio_timeout_and_gather_work_on_virtual_time() -> None:
    async def main(loop: SimLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await loop.create_future()
        await asyncio.gather(asyncio.sleep(1), asyncio.sleep(7))
        return loop.time()

    assert simulate(1, main).result == 37.0


def test_deadlock_says_who_waits() -> None:
    async def wait_for_nothing(loop: SimLoop) -> None:
        await loop.create_future()

    with pytest.raises(Deadlock, match="wait_for_nothing"):
        simulate(1, wait_for_nothing)


def test_virtual_seconds_are_bounded() -> None:
    async def forever(loop: SimLoop) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(OutOfBounds, match="virtual seconds"):
        simulate(1, forever, 60)


def test_steps_at_one_moment_are_bounded() -> None:
    async def spin(loop: SimLoop) -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with pytest.raises(OutOfBounds, match="steps"):
        simulate(1, spin, max_steps_at_once=1000)


def test_a_task_left_behind_is_found() -> None:
    async def main(loop: SimLoop) -> None:
        loop.create_task(asyncio.sleep(10), name="forgotten")
        await asyncio.sleep(1)

    with pytest.raises(TasksLeft, match="forgotten"):
        simulate(1, main)


@pytest.mark.parametrize("how", ["callback", "future", "task"])
def test_an_exception_that_nobody_takes_is_found(how: str) -> None:
    def fail() -> None:
        raise ValueError("nobody sees this")

    async def failing() -> None:
        fail()

    async def main(loop: SimLoop) -> None:
        if how == "callback":
            loop.call_soon(fail)
        elif how == "future":
            loop.create_future().set_exception(ValueError("nobody sees this"))
        else:
            loop.create_task(failing())
        await asyncio.sleep(1)

    with pytest.raises(Unhandled, match="nobody sees this"):
        simulate(1, main)


def test_real_io_and_threads_are_refused() -> None:
    async def main(loop: SimLoop) -> None:
        with pytest.raises(NotSimulated, match="run_in_executor"):
            await asyncio.to_thread(print)
        with pytest.raises(NotSimulated, match="create_connection"):
            await asyncio.open_connection("127.0.0.1", 1)
        with pytest.raises(NotSimulated, match="add_signal_handler"):
            loop.add_signal_handler(2, print)
        errors: list[Exception] = []

        def foreign() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except NotSimulated as error:
                errors.append(error)

        thread = threading.Thread(target=foreign)
        thread.start()
        thread.join()
        assert errors
        done = loop.create_future()
        loop.call_soon_threadsafe(done.set_result, None)
        await done

    # The foreign thread's callback was queued before the refusal: it prints an empty line at most.
    simulate(1, main)


def test_a_paused_process_waits_and_then_goes_on_in_order() -> None:
    async def main(loop: SimLoop) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        domain = Domain("node")

        async def tick(name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(1)
                seen.append((name, loop.time()))

        domain.run(lambda: loop.create_task(tick("in")))
        loop.create_task(tick("out"))
        await asyncio.sleep(1.5)
        loop.pause(domain)
        await asyncio.sleep(3)
        loop.resume(domain)
        await asyncio.sleep(5)
        return seen

    assert simulate(1, main).result == [
        ("in", 1.0), ("out", 1.0), ("out", 2.0), ("out", 3.0), ("in", 4.5), ("in", 5.5),
    ]  # fmt: skip


def test_a_killed_process_never_runs_again_and_leaves_no_task() -> None:
    async def main(loop: SimLoop) -> list[str]:
        seen: list[str] = []
        domain = Domain("node")

        async def child() -> None:
            await asyncio.sleep(2)
            seen.append("child")

        async def work() -> None:
            assert DOMAIN.get() is domain
            loop.create_task(child())
            try:
                await asyncio.sleep(2)
                seen.append("work")
            finally:
                loop.create_task(child())
                loop.call_soon(seen.append, "cleaned up")
                await asyncio.sleep(1)
                seen.append("after cleaning up")

        domain.run(lambda: loop.create_task(work()))
        domain.run(lambda: loop.call_later(2, seen.append, "timer"))
        await asyncio.sleep(1)
        assert len(loop.tasks(domain)) == 2
        loop.kill(domain)
        assert not loop.tasks(domain)
        await asyncio.sleep(10)
        return seen

    assert simulate(1, main).result == []


def test_shuffle_permutes_tasks_by_the_seed_and_keeps_callbacks_in_place() -> None:
    def order(seed: int) -> tuple[list[int], list[int]]:
        async def main(loop: SimLoop) -> tuple[list[int], list[int]]:
            steps: list[int] = []
            calls: list[int] = []

            async def step(number: int) -> None:
                steps.append(number)

            for number in range(20):
                loop.create_task(step(number))
                loop.call_soon(calls.append, number)
            await asyncio.sleep(1)
            return steps, calls

        return simulate(seed, main, shuffle=True).result

    assert order(1) == order(1)
    assert order(1)[0] != order(2)[0]
    assert sorted(order(1)[0]) == order(1)[1] == order(2)[1] == list(range(20))


PROGRAM = """
import asyncio, sys
from tests.sim.loop import simulate

async def main(loop):
    names = {f"task {n}" for n in range(50)}
    async def work(name):
        await asyncio.sleep(len(name) / 10)
    await asyncio.wait({loop.create_task(work(name)) for name in sorted(names)})

print(simulate(int(sys.argv[1]), main, shuffle=True).digest)
"""


def test_same_seed_same_trace_in_fresh_processes() -> None:
    def digest(seed: int, hash_seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, str(seed)],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert digest(1, "1") == digest(1, "2")
    assert digest(1, "1") != digest(2, "1")


def test_a_kept_trace_shows_its_lines() -> None:
    trace = Trace(keep=True)

    async def main(loop: SimLoop) -> None:
        loop.trace.note(loop.time(), "hello", 7)

    simulate(1, main, trace=trace)
    assert trace.lines is not None
    assert "0.000000 hello 7" in trace.lines

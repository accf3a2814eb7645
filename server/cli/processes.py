"""Work in processes: results as they come, with a bounded number of jobs under way."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

R = TypeVar("R")


def in_processes(count: int, most: int, work: Callable[..., R], jobs: Iterable[tuple[Any, ...]]) -> Iterator[R]:
    """The result of `work(*job)` for each of `jobs`, as they are done, in `count` processes that are started afresh.
    `jobs` are taken as there is room for them, at most `most` at a time. Raises what `work` raises; what has not begun
    by then, or when nobody wants more, is called off."""
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        running: set[Future[R]] = set()
        try:
            for job in jobs:
                running.add(pool.submit(work, *job))
                while len(running) > most:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        finally:
            for future in running:
                future.cancel()

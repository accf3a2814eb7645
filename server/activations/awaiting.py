"""Small tools for turns that wait: driving a coroutine by hand, and handing outcomes on."""

import asyncio
import types
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from server.errors import Unavailable


@types.coroutine
def drive(work: Coroutine[Any, Any, Any], yielded: Any) -> Any:
    """Drive a coroutine that was started by hand, and gave `yielded`, from within a task."""
    while True:
        try:
            value = yield yielded
        except BaseException as error:
            try:
                yielded = work.throw(error)
            except StopIteration as stop:
                return stop.value
        else:
            try:
                yielded = work.send(value)
            except StopIteration as stop:
                return stop.value


def is_cancelled() -> bool:
    """True if somebody cancels the running task (and not only what it waited for)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def wait_for(future: "asyncio.Future[Any]") -> Any:
    """`future` as a coroutine."""
    return await future


def copy_into(result: Any, future: "asyncio.Future[Any]") -> None:
    """Resolve `future` with a result that may itself still be under way."""
    if not isinstance(result, asyncio.Future):
        if not future.done():
            future.set_result(result)
        return

    def done(inner: "asyncio.Future[Any]") -> None:
        if inner.cancelled():
            future.cancel()
        elif (error := inner.exception()) is not None:
            fail(future, error)
        elif not future.done():
            future.set_result(inner.result())

    result.add_done_callback(done)


def fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    """Fail `future`, if it is not done."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more; that is not worth a warning


def resolve(out: "asyncio.Future[Any]", inner: "asyncio.Future[Any]", then: Callable[[Any], Any] | None = None) -> None:
    """Resolve `out` with the outcome of `inner`, if somebody waits still."""
    error = Unavailable("the call was cancelled") if inner.cancelled() else inner.exception()
    if out.done():
        return
    if error is not None:
        out.set_exception(error)
        return
    try:
        out.set_result(inner.result() if then is None else then(inner.result()))
    except Exception as fault:
        out.set_exception(fault)  # the method's result cannot travel


def shared(inner: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
    """A future of the same outcome, that may be cancelled by itself."""
    out: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    inner.add_done_callback(partial(resolve, out))
    return out

"""Hooks and marks that every test shares.

Tests marked `browser` or `docker` skip, visibly, where Chromium or docker is not there. With
`GARRISON_REQUIRE_ALL=1`, as in CI, such a skip is a failure.

The event loop of an async test is asyncio's own, unless a mark says another: `virtual_time` the
simulation's (`tests/support/virtual_time.py`), `loops("asyncio", "uvloop")` each of these in turn.
The mark nearest to the test counts.

`make test` spreads the tests over processes (`tests/support/spread.py`): any test runs beside any other, in
any order, but for those of a few modules.
"""

import asyncio
import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from tests.support.phases import forget_refused, refused_transitions
from tests.support.virtual_time import VirtualTimeLoop

NEEDS_A_PROGRAM = ("browser", "docker")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, LoopFactory]:
    closest = next((mark for mark in item.iter_markers() if mark.name in ("virtual_time", "loops")), None)
    if closest is None:
        return {"asyncio": LOOPS["asyncio"]}
    if closest.name == "virtual_time":
        return {"virtual": VirtualTimeLoop}
    return {name: LOOPS[name] for name in closest.args}


def pytest_xdist_auto_num_workers() -> int:
    """Processes of `make test`: two a core, as much of the suite waits for programs that it has started."""
    return min(2 * len(os.sched_getaffinity(0)), 8)


def pytest_collection_finish() -> None:
    """Take what the collection of thousands of tests has made out of the garbage collector's way: each
    simulated run collects twice."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.spread import Spread

    return Spread(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    required = os.environ.get("GARRISON_REQUIRE_ALL") == "1"
    if required and report.skipped and any(item.get_closest_marker(name) for name in NEEDS_A_PROGRAM):
        report.outcome = "failed"
        report.longrepr = f"skipped, and GARRISON_REQUIRE_ALL=1 asks for it: {report.longrepr}"
    return report  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def only_legal_transitions() -> Iterator[None]:
    """No entity of a node takes a step that its table of phases does not have, also where a handler swallows
    the error."""
    forget_refused()
    yield
    refused = refused_transitions()
    assert not refused, refused

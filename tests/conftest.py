"""Hooks and marks that every test shares.

Tests marked `browser` or `docker` skip, visibly, where Chromium or docker is not there. With
`GARRISON_REQUIRE_ALL=1`, as in CI, such a skip is a failure.

The event loop of an async test is asyncio's own, unless a mark says another: `virtual_time` the
simulation's (`tests/support/virtual_time.py`), `loops("asyncio", "uvloop")` each of these in turn.
The mark nearest to the test counts.

`make test` spreads the tests over processes, module by module (`tests/support/spread.py`): any module runs beside any
other, in any order.
"""

import asyncio
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

from tests.support.phases import forget_refused, refused_transitions
from tests.support.spread import Spread, place_of
from tests.support.virtual_time import VirtualTimeLoop

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")  # how long an example takes is a matter of what else the machine does
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Have each process of `make test` import another part of the tests first, before all of them collect all: pytest
    rewrites a module once and keeps it, and so a new tree's are not rewritten by each process."""
    worker = getattr(session.config, "workerinput", None)
    if (
        worker is None
        or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS
        or sys.dont_write_bytecode
    ):
        return
    modules = sorted(Path(__file__).parent.glob("*/test_*.py"))
    first = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for path in (*modules[first:], *modules[:first]):
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        with suppress(Exception, pytest.skip.Exception):  # the collection tells of it
            importlib.import_module(path.stem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(item.path))


def pytest_collection_finish() -> None:
    """Take what the collection of thousands of tests has made out of the garbage collector's way: each
    simulated run collects twice."""
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
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

"""Fixtures of the simulation's own tests."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def heap_of_earlier_tests_is_frozen() -> Iterator[None]:
    """Take everything that earlier tests of this process have left out of the garbage collector's way: a
    simulated run collects twice, and would look through all of it each time."""
    gc.collect()
    gc.freeze()
    yield

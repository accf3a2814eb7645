"""Distribution of the tests over the processes of `make test` and `make test-mutants`: a module's tests stay on one
process, one after the other, so that what they share is made once; the modules that take longest come first, so that
none of them is left alone at the end."""

from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

APART: Final = frozenset({"tests/sim/test_mutants.py"})
"""Modules of which each test may go elsewhere: hundreds, and seconds each."""
LONGEST_FIRST: Final = ("e2e", "sim", "integration", "golden", "property", "house", "contract", "unit")
"""Folders of the tests, by how long one of their modules may take: whole clusters of processes at first, minutes of
them; modules of a second at last."""


def place_of(module: Path) -> int:
    """The place of a test module's folder among the others; after all of them where it is none of them."""
    name = module.parent.name
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


def unit_of(nodeid: str) -> str:
    """The unit of distribution that a test belongs to: its module, or itself alone."""
    module = nodeid.partition("::")[0]
    return nodeid if module in APART else module


class Spread(LoadScopeScheduling):
    """Scheduling by module, in the order in which they were collected: xdist's own begins with those of the most tests,
    which are short ones."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)
        self.log = log.spread

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

"""Distribution of the tests over the processes of `make test`: any test on any process, but for modules whose tests
share something that is dear to make. Those stay on one process, one after the other."""

from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TOGETHER: Final = frozenset(
    {
        "tests/e2e/test_audit.py",  # one demo that has ended
        "tests/e2e/test_chaos.py",  # programs that need much of the machine
        "tests/e2e/test_demo.py",
        "tests/e2e/test_play.py",  # one cluster
        "tests/e2e/test_replay_cli.py",  # one database
        "tests/e2e/test_watched_players.py",  # one cluster
        "tests/sim/test_first_scenario.py",  # outcomes of seeds
        "tests/sim/test_storm.py",
    }
)


def unit_of(nodeid: str) -> str:
    """The unit of distribution that a test belongs to: its module, or itself alone."""
    module = nodeid.partition("::")[0]
    return module if module in TOGETHER else nodeid


class Spread(LoadScopeScheduling):
    """Scheduling by `unit_of`. (xdist's own groups of `xdist_group` are none with pytest 9: a test's name is
    no longer to be set.)"""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self.log = log.spread

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

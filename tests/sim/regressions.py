"""Seeds that once found something, with what it was: `test_storm.py` plays them on each run."""

from typing import Final, NamedTuple

from tests.sim.storm import Options


class Regression(NamedTuple):
    """`scenario` is `first` or `storm`; `faults` the chance of a lost statement in the first one."""

    scenario: str
    seed: int
    found: str
    faults: float = 0.0
    options: Options = Options()


KEPT: Final = (
    Regression("storm", 1, "a client took the server's `connection_lost` for its own and stopped watching"),
    Regression("storm", 5216, "an answer to a renewal that came after the lease's end released what waited for it"),
    Regression("storm", 2396, "a node judged others a period after it had asked for its lease, not after it had it"),
    Regression("first", 4, "a flush wrote what had just been migrated, and counted it as lost"),
    Regression("storm", 20265, "a session that had arrived unnoticed ended the one that its sender went on with"),
    Regression("storm", 30400, "a push right behind the welcome was counted for the session before"),
    Regression("storm", 31325, "a judge's statement that came late was held against the lease it had by then"),
    Regression("storm", 26, "the whole cluster was down when a client looked for a node"),
    Regression("storm", 2112, "a session that was taken back from a silent node had its numbers given twice"),
    Regression("storm", 2324, "a welcome was taken in a turn later than the pushes behind it"),
    Regression("storm", 103487, "a move that the store refused was tried, and claimed back, ten times a second"),
    Regression("storm", 104361, "a quiet session's beats were acknowledged later than its client waits for a word"),
    Regression("storm", 200045, "a call waited for a deadline that was less than the clock's grain away, for ever"),
    Regression("storm", 207319, "the checker took a refused registration that came late for the lease's beginning"),
    Regression("storm", 301441, "the copy of a session that was taken back numbered events as its sender did others"),
    Regression("storm", 704101, "the checker forgave what a machine takes along only while a node ran there"),
    Regression("storm", 111539, "a node that stopped in a move left the error of its last word to nobody"),
)

"""The open facts of one activation: which are stored, under way, to be told again, and over. Pure: takes `now`.

unstored    in a boundary that is not in the store yet: nobody may hear of it
ready       to be told as soon as there is room
under way   told, and not answered
later       told without success: again after a pause
over        answered; it stays until the state lists it no more, so that it is not told again
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from server.actors.facts import Fact, FactDone, FactName


class _OpenFact:
    __slots__ = ("fact", "over", "times")

    def __init__(self, fact: Fact) -> None:
        self.fact = fact
        self.times = 0
        """How often in a row it was told without success."""
        self.over = False


class OpenFacts:
    """See the module's head. Every step takes time by the number of facts that it is about, and `look` by those that
    there are."""

    __slots__ = ("_later", "_left", "_listed", "_order", "_ready", "_unstored", "done", "reporting", "under_way")

    def __init__(self) -> None:
        self._listed: dict[FactName, _OpenFact] = {}
        self._unstored: deque[tuple[int, FactName]] = deque()
        self._ready: deque[FactName] = deque()
        self._later: list[tuple[float, int, FactName]] = []
        self._order = self._left = 0
        self.under_way: set[FactName] = set()
        self.done: list[FactDone] = []
        """Facts that are over and of which the actor was not told yet."""
        self.reporting = False
        """True while a turn of the actor that hears of some is under way, or is to be tried again."""

    @property
    def busy(self) -> bool:
        """True while a fact is open, or the actor has to hear of one that is over."""
        return bool(self._left or self.done or self.reporting)

    def look(self, facts: Iterable[Fact], version: int) -> None:
        """Take `facts`, in the boundary of `version`, for what is open: new ones are told once that is stored, and
        those that are no more are not told again."""
        listed: dict[FactName, _OpenFact] = {}
        for fact in facts:
            known = self._listed.get(fact.name)
            if known is None:
                known = _OpenFact(fact)
                self._unstored.append((version, fact.name))
            listed[fact.name] = known
        self._listed = listed
        self._left = sum(not known.over for known in listed.values())

    def stored(self, version: int) -> None:
        """Note that the boundary of `version` is in the store."""
        while self._unstored and self._unstored[0][0] <= version:
            self._ready.append(self._unstored.popleft()[1])

    def begin(self, now: float) -> Fact | None:
        """The next fact to tell, which is under way from here; None if there is none now."""
        while self._later and self._later[0][0] <= now:
            self._ready.append(heappop(self._later)[2])
        while self._ready:
            name = self._ready.popleft()
            known = self._listed.get(name)
            if known is not None and not known.over and name not in self.under_way:
                self.under_way.add(name)
                return known.fact
        return None

    def failed(self, name: FactName) -> int:
        """Note that `name` was told without success. Returns how often in a row."""
        self.under_way.discard(name)
        known = self._listed.get(name)
        if known is None:
            return 0
        known.times += 1
        return known.times

    def again(self, name: FactName, at: float) -> None:
        """Tell `name` again at `at`."""
        self._order += 1
        heappush(self._later, (at, self._order, name))

    def next_at(self) -> float | None:
        """The time at which the next fact is to be told again."""
        return self._later[0][0] if self._later else None

    def over(self, done: FactDone) -> None:
        """Note that a fact is over."""
        self.under_way.discard(done.name)
        known = self._listed.get(done.name)
        if known is not None and not known.over:
            known.over = True
            self._left -= 1
            self.done.append(done)

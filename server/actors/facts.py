"""Two-sided facts: what one actor has decided and another one must come to know, each effect exactly once.

    @staticmethod
    def facts(key, state):                   the intent is part of the state: what is open follows from it
        for number, player in state.gifts.items():
            yield fact(number, Purse, player, Purse.take_gift, key, number)

    def facts_done(self, done):              a turn: the others have *stored* what they were told
        self.state = without(self.state, done)

A result and a career, a roster and a player's match, friendships: a saga (Garcia-Molina and Salem, 1987) over two
actors. Neither locks the other; each writes its own half only, and mirrors the other's. The engine tells a fact once
the state that has it is in the store, tells it again, with growing pauses and for as long as it takes, until the other
side answers, and an answer leaves there only when what the turn made is in the store. If this node dies, the row says
that facts are open, and another node brings the actor back (`server/catalog/orphans.py`).

So a fact is told at least once, and the other side must know it again: by its `number`, as `Register` does, or by what
it keeps anyway. A fact is over when the method has answered, when a rule refuses it (`Rejected`: full, not wanted), or
when a method marked `@existing` finds that there is no such actor. A method that is not marked so makes the actor.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from server.errors import BadSetting
from server.ids import ActorId, actor_id, key_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Stamp(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """The number of a word that an actor has said: `Actor.stamp`. Of two words of one writer the later has the greater
    stamp, for ever: a version alone is used again where its node died before it was stored; its epoch is not."""

    epoch: int = 0
    version: int = 0


NEVER: Final = Stamp()
"""Before every word."""


class Register(msgspec.Struct, Generic[T], frozen=True, array_like=True, gc=False):
    """The newest word that one writer has said about one thing; its mirror at the other side is one too. What was
    taken back stays as a register without a value (a tombstone): otherwise the word before it would count, if that
    comes late."""

    stamp: Stamp
    value: T | None = None


def newest(kept: Register[T] | None, word: Register[T]) -> Register[T]:
    """The newer of the two; `kept` itself where `word` says nothing new. In whatever order words come, and how often
    they do, the newest one stays (a last-writer-wins register with one writer)."""
    return word if kept is None or kept.stamp < word.stamp else kept


class FactName(msgspec.Struct, frozen=True, array_like=True):
    """The identity of a fact among those of its actor."""

    to: ActorId
    method: str
    number: Stamp


class Fact(msgspec.Struct, frozen=True):
    """Call `method(*args)` of actor `to` until it has stored that."""

    name: FactName
    args: tuple[Any, ...] = ()


class FactDone(msgspec.Struct, frozen=True, array_like=True):
    """A fact that is over. `refused` is the code of the error where the other side said no for good, or is not
    there."""

    name: FactName
    answer: Any = None
    refused: str = ""


def fact(number: Stamp, to: Any, key: str, method: Callable[..., Any], *args: Any) -> Fact:
    """The fact that `to.method(*args)` is to be called on `key`; `to` is an actor class or a face."""
    return Fact(FactName(actor_id(to.kind, key), method.__name__, number), args)


class HasFacts(msgspec.Struct, frozen=True):
    """Tells of a stored state whether a fact of it is open: what the row says, so that an actor whose node is gone is
    found."""

    facts: Callable[[str, Any], Iterable[Fact]]

    def __call__(self, identity: ActorId, state: Any) -> bool:
        return next(iter(self.facts(key_of(identity), state)), None) is not None


RowFacts = Mapping[str, Callable[[ActorId, Any], bool]]
"""For each kind that has facts: whether any is open in a state of one of its actors."""


def no_facts(function: F) -> F:
    """Mark the `facts` of an actor class that has none."""
    function.no_facts = True  # type: ignore[attr-defined]
    return function


def tells_facts(cls: Any) -> bool:
    """Tell whether actor class `cls` has facts."""
    return not getattr(cls.facts, "no_facts", False)


def open_facts_of(actors: Iterable[Any]) -> dict[str, Callable[[ActorId, Any], bool]]:
    """See `RowFacts`."""
    return {cls.kind: HasFacts(cls.facts) for cls in actors if tells_facts(cls)}


def check_facts(cls: Any) -> None:
    """Raises `BadSetting` for a volatile actor with facts: nothing of it could be stored before it is told."""
    if tells_facts(cls) and cls.durability == "volatile":
        raise BadSetting("app", f"{cls.__name__} has facts, and a volatile actor stores none")

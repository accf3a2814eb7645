"""The reminders of one activation: setting them, taking them back, and running one that has come.

    await self.remind(self.expire, due_ms)      in a turn, before it changes state: the store has it
    @reminder                                   at `due_ms` or later, wherever the actor lives then
    def expire(self, due_ms: int) -> None: ...

A reminder is a row of the store, one for each actor and method (as in Orleans: Bernstein et al.,
"Orleans: Distributed Virtual Actors for Programmability and Scalability", 2014; there they are
periodic, here each comes once). Every node looks for due rows now and then and calls the actors
whose slots it owns: `Actor.reminded(name, due_ms)`. Views may differ for a while, and then two nodes
call; nodes die between call and flush. So the row goes only once the effect is stored:

    write-behind   the method's change and `state.reminded[name] = due_ms` are one version. A second
                   call with the same or an earlier due runs nothing; it answers True once that version
                   is in the store. Only a True lets the row be dropped: lost with its node before that,
                   the change is made again, by the row that is still there.
    logged         the answer waits for the events of the turn, as every answer does. An actor that is
                   called again must see from its state that there is nothing left to do.

Setting a reminder again moves it. `remind` never goes back to a due that was handled (it takes the
next millisecond). What this activation set last is in its memory: a call for another due, whose row
was read before that, runs nothing.

A row carries the epoch under which it was set, and the number of that statement among those of its
activation. The store takes a statement only under the epoch of now, and only over a row of an older
one: what a former owner sent, or this one before, and what comes late, moves and forgets nothing that
was set since. (A reminder that was taken back leaves no row. If an earlier statement of the same owner
comes after that, there is one again: a call of this activation runs nothing, and one of a later may come.)
What was delivered is dropped by its own epoch and number. An activation whose statement is refused has
lost its actor, and ends.
"""

import inspect
from collections.abc import Awaitable
from typing import Any

from msgspec.structs import replace

from server.activations.ports import ActivationNode, Entity
from server.actors.actor import Actor
from server.actors.reminders import is_reminder
from server.errors import Fenced, Internal, NotFound
from server.storage.ports import Reminder


class Reminding:
    """See the module's head. `pending`: for each reminder that this activation has set, the due that it
    set last and that has not come yet, None where it took it back."""

    __slots__ = ("_activation", "_node", "_recorded", "number", "pending")

    def __init__(self, activation: Entity, node: ActivationNode) -> None:
        self._activation, self._node = activation, node
        self.number = 0
        """The number of the newest statement; it grows as long as the activation lives, whatever the epoch."""
        self.pending: dict[str, int | None] = {}
        self._recorded: dict[str, int] = {}
        """For each reminder that came here, the version that records its effect."""

    # ---- setting ----

    async def remind(self, name: str, due_ms: int) -> None:
        """See `Actor.remind`."""
        self._check_turn(name)
        await self._write(name, max(due_ms, _handled(self._activation.actor, name) + 1))

    async def unremind(self, name: str) -> None:
        """See `Actor.unremind`."""
        self._check_turn(name)
        await self._write(name, None)

    def _check_turn(self, name: str) -> None:
        """Raises `Internal` for what the author of the actor did wrong, `Unavailable` without a lease."""
        actor = self._activation.actor
        if not is_reminder(type(actor), name):
            raise Internal(f"{type(actor).__name__}.{name} is not marked @reminder")
        if actor.state is not self._activation.boundary:
            raise Internal(f"a turn of {actor.id} sets or takes back a reminder after it changed state")
        self._node.durability.accept_logged()

    async def _write(self, name: str, due_ms: int | None) -> None:
        """Set reminder `name` to `due_ms`, or take it back (None), in a task of its own: the first step of
        a turn runs in whatever task called it. While the outcome is open, and after a failure, any due may
        be in the store. Raises `Fenced`, and ends the activation, where somebody else has the actor."""
        activation, store = self._activation, self._node.store
        self.number += 1
        number = self.number
        self.pending.pop(name, None)
        write = store.unset_reminder if due_ms is None else store.set_reminder
        statement = write(Reminder(activation.id, name, due_ms or 0, activation.epoch, number))
        if not await self._node.supervisor.spawn(statement, f"reminder {activation.id}"):
            activation.fenced()
            raise Fenced(f"{activation.id} has another owner")
        if self.number == number:  # otherwise another went out meanwhile, and which is the later is not said
            self.pending[name] = due_ms

    # ---- running ----

    def deliver(self, name: str, due_ms: int) -> bool | Awaitable[bool]:
        """See `Actor.reminded`. Raises `NotFound` for a method that is not marked."""
        actor = self._activation.actor
        if not is_reminder(type(actor), name):
            raise NotFound(f"{type(actor).__name__} has no reminder {name[:64]!r}")
        if self.pending.get(name, due_ms) != due_ms:
            return True  # its row was read before that was set, or came late to where none was left
        if _handled(actor, name) >= due_ms:
            return self._activation.stored_version >= self._recorded.get(name, 0)
        self.pending.pop(name, None)
        result = getattr(actor, name)(due_ms)
        if inspect.isawaitable(result):
            return self._awaited(name, due_ms, result)
        return self._record(name, due_ms)

    async def _awaited(self, name: str, due_ms: int, result: Awaitable[Any]) -> bool:
        await result
        return self._record(name, due_ms)

    def _record(self, name: str, due_ms: int) -> bool:
        """Note in the state that the method has run, as part of the same turn. For a logged actor the
        answer itself waits for what the turn has emitted."""
        actor = self._activation.actor
        self._node.metrics.reminders_fired_total += 1
        if actor.durability == "logged":
            return True
        actor.state = replace(actor.state, reminded={**actor.state.reminded, name: due_ms})
        self._recorded[name] = self._activation.version + 1
        return False


def _handled(actor: Actor[Any], name: str) -> int:
    """The due up to which the state of a write-behind actor has reminder `name` as handled, or 0."""
    return 0 if actor.durability == "logged" else int(actor.state.reminded.get(name, 0))

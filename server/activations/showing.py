"""The looks of an activation: how it shows itself to those who watch it (`server/actors/pictures.py`).

    show -> _show     somebody may see it now: the outlet is told, once, and asks by `showing`
    withdraw          nobody may see it any more

A turn that may have changed its looks notes that, no more, and only the first one until somebody wants to know. What
is seen must be durable: as long as the outputs of a turn are held that notes it too, it looks as it did when it was
asked last. So that this ends though there is always another such turn, all of these but the first one keep what they
look like.
"""

import asyncio
from functools import partial
from typing import Any

from server.activations.ports import ActivationNode
from server.activations.turns import Output, Turns
from server.actors.actor import Actor
from server.actors.pictures import NEVER_SHOWN, Look, Showing, check_shown
from server.ids import ActorId


class ShowingTurns(Turns):
    """See the module's head. It is a `ShownActor`, and the part of `Context` that is about looks."""

    __slots__ = ("_is_shown", "_looks_new", "_shown")

    def __init__(
        self, node: ActivationNode, cls: type[Actor[Any]], identity: ActorId, state: Any, version: int
    ) -> None:
        super().__init__(node, cls, identity, state, version)
        self._is_shown = False
        """Whether it shows itself to those who watch it."""
        self._looks_new = False
        """Whether it may look different from `_shown`: whoever is to see it has been told so, and asks for it."""
        self._shown = NEVER_SHOWN

    def show(self) -> None:
        """See `Actor.show`."""
        if self._looks_new and self._node.durability.at_once and not self.through and self._log is None:
            return  # noted, as of a player at whom nobody looks, and what this turn changes is not going to be held
        self.outputs.append(self._show)

    def withdraw(self) -> None:
        """See `Actor.withdraw`."""
        self.outputs.append(self._withdraw)

    def _show(self) -> None:
        if self._looks_new or self.dropped:
            return
        self._is_shown = self._looks_new = True
        self._node.outlet.show(self.id, self)

    def _show_as(self, look: Look | None) -> None:
        """Show what a turn looked like whose outputs were held."""
        if self.dropped:
            return
        self._looks_new, self._is_shown = False, True
        self._see(look)
        self._node.outlet.show(self.id, self)

    def _withdraw(self) -> None:
        if self.dropped or not self._is_shown:
            return
        self._looks_new = self._is_shown = False
        self._shown = Showing(self._shown.n + 1, None, 0)
        self._node.outlet.withdraw(self.id, self.epoch, self._shown.n)

    @property
    def seen(self) -> Showing:
        """See `server.actors.pictures.ShownActor`."""
        return self._shown

    def showing(self) -> Showing:
        """See `server.actors.pictures.ShownActor`."""
        if self._looks_new and not self.dropped:
            self._looks_new = False
            if not self._holds_looks():  # else that is told when it leaves
                self._see(self._look())
        return self._shown

    def _look(self) -> Look | None:
        actor = self.actor
        state, actor.state = actor.state, self.boundary
        try:
            look = actor.look()
            check_shown(*look)
            return look
        except Exception as error:
            self._node.turn_crashed(self.id, error)
            return None
        finally:
            actor.state = state

    def _see(self, look: Look | None) -> None:
        """Count a look, unless it is the same as before: only what is visible is counted."""
        before = self._shown
        if look is not None and (before.pictures != look.pictures or before.relations != look.relations):
            self._shown = Showing(before.n + 1, *look)

    def _holds_looks(self) -> bool:
        """Whether outputs are held of a turn that may have changed how it looks."""
        ours = (self._show, self._show_as, self._withdraw)
        return any(getattr(output, "func", output) in ours for held in self._held or () for output in held.outputs)

    def _hold(self, result: Any, outputs: list[Output]) -> "asyncio.Future[Any]":
        if self._show in outputs and self._holds_looks():
            kept = partial(self._show_as, self._look())
            outputs = [kept if output == self._show else output for output in outputs]
        return super()._hold(result, outputs)

    def shown_at_last(self) -> Showing | None:
        """How it looks as it leaves for another node; None for one that was never shown."""
        return self.showing() if self._is_shown or self._shown.n else None

    def show_again(self, shown: Showing | None) -> None:
        """Go on to show what it showed on the node that it has come from."""
        if shown is None:
            return
        self._shown, self._is_shown = shown, shown.pictures is not None
        if self._is_shown:
            self._node.outlet.show(self.id, self)
        else:
            self._node.outlet.withdraw(self.id, self.epoch, shown.n)

    def _hide(self, moved: bool) -> None:
        """Note that it has ended here; `moved`: it lives on, on another node."""
        if self._is_shown:
            self._node.outlet.hide(self.id, self.epoch, moved)

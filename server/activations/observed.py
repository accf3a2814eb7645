"""Observers: told of each change of an actor's state, at the end of the turn that made it.

For columns and live queries that are kept beside the actors. An observer runs as part of the turn: it is short, it
waits for nothing and changes nothing. The change is not durable yet when it is told, and where the node dies it may
never be; what must not run ahead of the store waits until `version` is stored.

An actor that is observed gets an activation of a class of its own at its birth, in which `boundary` is a property. So
nobody else pays for it: where a kind is not observed, a turn's end runs as if this file was not there.
"""

from collections.abc import Callable
from typing import Any

from server.activations.activation import Activation
from server.activations.ports import ActivationNode
from server.actors.actor import Actor
from server.ids import ActorId

_boundary: Any = Activation.boundary  # type: ignore[misc]  # the descriptor of the slot


class ObservedActivation(Activation):
    """An activation whose changes of state are told to the observers of its kind."""

    __slots__ = ("_observers",)

    def __init__(
        self, node: ActivationNode, cls: type[Actor[Any]], identity: ActorId, state: Any, version: int
    ) -> None:
        self._observers = node.observers(cls.kind)
        super().__init__(node, cls, identity, state, version)

    @property
    def boundary(self) -> Any:
        """The state at the end of the last good turn."""
        return _boundary.__get__(self)

    @boundary.setter
    def boundary(self, state: Any) -> None:
        if self.phase == "loading":
            _boundary.__set__(self, state)
            return
        before = _boundary.__get__(self)
        _boundary.__set__(self, state)
        for observer in self._observers:
            try:
                observer(self.id, self.kind, self.version, before, state)
            except Exception as error:
                self._node.turn_crashed(self.id, error)


def new_activation(
    node: ActivationNode, cls: type[Actor[Any]], identity: ActorId, state: Any, version: int
) -> Activation:
    """An activation of `cls` that is not open for calls yet, observed where anybody observes its kind."""
    make: Callable[..., Activation] = ObservedActivation if node.observers(cls.kind) else Activation
    return make(node, cls, identity, state, version)

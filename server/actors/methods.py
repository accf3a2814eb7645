"""Callable methods of an actor: those that others may call, those that only its timers run, and how arguments
travel.

Arguments go between nodes as one msgpack array; a method's annotations give the decoder, so a
peer's bytes are validated before they reach the actor. Built once a function: a process may have many nodes.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from server.actors.actor import Actor, LoggedActor
from server.errors import BadInput, BadSetting
from server.wire.codec import UNDECODABLE

_MARKS = ("remote", "read_only", "existing")


class Method:
    """A callable method. `function(actor, *args)`; `decode_args` and `decode_result` raise
    `BadInput`."""

    __slots__ = ("_args", "_result", "aside", "existing", "function", "name", "peeks", "plain", "read_only", "revives")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.plain = not _may_wait(function)
        """A plain `def` whose annotation promises a value: never a coroutine or a future."""
        self.read_only = bool(getattr(function, "read_only", False))
        self.existing = bool(getattr(function, "existing", False))
        """Only for an actor that there is."""
        self.revives = int(getattr(function, "revives", 0))
        """Makes also an actor that was erased; see `server.storage.ports.Claim`."""
        self.peeks = self.read_only and not (self.existing or getattr(function, "makes", False))
        """On an actor that there is not it runs on a blank one."""
        self.aside = self.read_only and not self.plain and not inspect.iscoroutinefunction(function)
        """A read-only plain `def` that gives an awaitable: what it reads of the state it reads at
        once, and waiting for the rest holds no turn up."""
        hints = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        types = [hints.get(parameter.name, Any) for parameter in parameters]
        defaults = [parameter.default for parameter in parameters]
        self._args = _args_decoder(name, types, defaults)
        self._result = msgspec.msgpack.Decoder(_plain(_unwrap(hints.get("return", Any))))

    def decode_args(self, payload: bytes | memoryview | msgspec.Raw) -> tuple[Any, ...]:
        try:
            arguments = self._args.decode(payload)
        except UNDECODABLE as error:
            raise BadInput(f"arguments of {self.name}: {error}") from None
        return msgspec.structs.astuple(arguments)

    def decode_result(self, payload: bytes) -> Any:
        try:
            return self._result.decode(payload)
        except UNDECODABLE as error:
            raise BadInput(f"result of {self.name}: {error}") from None


class Methods(NamedTuple):
    """The callable methods of an actor class by name. `remote`: those that others may call, `own`: those and the
    others that it defines, which its timers may run."""

    remote: Mapping[str, Method]
    own: Mapping[str, Method]


MethodTable = Mapping[type[Actor[Any]], Methods]
"""The callable methods of each actor class of an application."""


def methods_of(cls: type[Actor[Any]]) -> Methods:
    """The callable methods of `cls`. A name that begins with `_` is never callable."""
    remote: dict[str, Method] = {}
    own: dict[str, Method] = {}
    engines = {id(function) for base in (Actor, LoggedActor) for function in _attributes(base).values()}
    for name, function in sorted(_attributes(cls).items()):
        if not inspect.isfunction(function) or name.startswith("_"):
            continue
        if is_remote(cls, name):
            remote[name] = own[name] = _method(name, function)
        elif id(function) not in engines:
            own[name] = _method(name, function)
    return Methods(remote, own)


_method = lru_cache(maxsize=4_096)(Method)


def _attributes(cls: type) -> dict[str, Any]:
    """The attributes of a class and its bases, as they stand there."""
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def is_remote(cls: type[Actor[Any]], name: str) -> bool:
    """Tell whether others may call method `name`: it, or one that it overrides, is marked."""
    marked = (vars(base).get(name) for base in cls.__mro__)
    return any(getattr(function, mark, False) for function in marked for mark in _MARKS)


def check_remote(cls: type[Actor[Any]], name: str) -> None:
    """Raises `BadSetting` if `cls` has no method `name`, or one that others may not call."""
    if not callable(getattr(cls, name, None)):
        raise BadSetting("app", f"{cls.__name__} has no method {name}")
    if not is_remote(cls, name):
        raise BadSetting("app", f"{cls.__name__}.{name} is called from other nodes: mark it @remote")


def _may_wait(function: Callable[..., Any]) -> bool:
    returns = get_type_hints(function).get("return", Any)
    return inspect.iscoroutinefunction(function) or returns is Any or _unwrap(returns) is not returns


def _args_decoder(name: str, types: list[Any], defaults: list[Any]) -> "msgspec.msgpack.Decoder[Any]":
    fields: list[Any] = [
        (f"a{place}", _plain(kind))
        if default is inspect.Parameter.empty
        else (f"a{place}", _plain(kind), msgspec.field(default_factory=partial(_given, default)))
        for place, (kind, default) in enumerate(zip(types, defaults, strict=True))
    ]
    struct = msgspec.defstruct(f"Args_{name}", fields, array_like=True, frozen=True, forbid_unknown_fields=True)
    return msgspec.msgpack.Decoder(struct)


def _given(default: Any) -> Any:
    return default


def _plain(kind: Any) -> Any:
    """Messages that travel alone between nodes are their own type, never a union by tag."""
    return NoneType if kind is None else kind


def _unwrap(kind: Any) -> Any:
    """The `R` of `Awaitable[R]`, alone or within a union."""
    if get_origin(kind) is Awaitable or getattr(get_origin(kind), "__name__", "") == "Awaitable":
        return get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return Union[tuple(_unwrap(part) for part in get_args(kind))]  # noqa: UP007 - made at run time
    return kind

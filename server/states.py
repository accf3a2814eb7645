"""States of actors as bytes, and a persistent map for those that hold many things. Pure.

A state is an immutable `msgspec.Struct`: a boundary, a keyframe and a replay's step each keep one while others
are made from it. A `dict` in it would be copied whole for each change, however small that is. A `Map` shares all
but the changed part with the map that it was made from: a hash trie, as in Bagwell, "Ideal Hash Trees" (2001),
whose leaves are small dicts. So a map that fits in one leaf is a dict, with its order and its cost, and a
change of a large one copies a leaf and the way to it. What two maps share they need not be asked for:
`changes_since` walks only what differs.

As bytes a `Map` is a msgpack map, no different from a dict's. Whatever encodes or decodes states does so here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Self, TypeVar, overload

import msgspec

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
_LEAF_ITEMS: Final = 64
_FANOUT_BITS: Final = 5
_FANOUT: Final = 1 << _FANOUT_BITS
_MASK: Final = _FANOUT - 1
_DEEPEST: Final = 12
"""Levels after which the bits of a hash are used up: keys of one hash share a leaf, however large."""
_Node = Any
"""A leaf (a dict that nobody changes any more), or a tuple of `_FANOUT` nodes."""
_NOTHING: Final = object()


class Map(Mapping[K, V]):
    """An immutable mapping. A state's field has a subclass as its type, which says what it is decoded as."""

    __slots__ = ("_root", "_size")
    plain: ClassVar[Any] = dict[Any, Any]
    """The type of the dict that stands for it in bytes."""

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        leaf = dict(items)
        self._size = len(leaf)
        self._root: _Node = _grown(leaf, 0)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        for leaf in _leaves(self._root):
            yield from leaf

    def __getitem__(self, key: K) -> V:
        node, bits = self._root, hash(key)
        while node.__class__ is tuple:
            node, bits = node[bits & _MASK], bits >> _FANOUT_BITS
        value: V = node[key]
        return value

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: Any, default: Any = None) -> Any:
        node, bits = self._root, hash(key)
        while node.__class__ is tuple:
            node, bits = node[bits & _MASK], bits >> _FANOUT_BITS
        return node.get(key, default)

    def __contains__(self, key: object) -> bool:
        node, bits = self._root, hash(key)
        while node.__class__ is tuple:
            node, bits = node[bits & _MASK], bits >> _FANOUT_BITS
        return key in node

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.items())!r})"

    def set(self, key: K, value: V) -> Self:
        """The map with `value` under `key`."""
        root, grown = _with(self._root, hash(key), 0, key, value)
        return self._made(root, self._size + grown)

    def without(self, key: K) -> Self:
        """The map without `key`. Raises `KeyError` where it has none."""
        return self._made(_without(self._root, hash(key), key), self._size - 1)

    def changes_since(self, before: "Map[K, V]") -> list[K]:
        """Keys whose value here is another object than in `before`, or that only one of the two has. Takes time
        by what differs, where one of them was made from the other."""
        changed: list[K] = []
        _compare(before._root, self._root, changed)
        return changed

    def _made(self, root: _Node, size: int) -> Self:
        made = self.__class__.__new__(self.__class__)
        made._root, made._size = root, size
        return made


def _leaves(node: _Node) -> Iterator[dict[Any, Any]]:
    if node.__class__ is tuple:
        for part in node:
            yield from _leaves(part)
    else:
        yield node


def _grown(leaf: dict[Any, Any], level: int) -> _Node:
    """`leaf`, or what it becomes where it is too large for one."""
    if len(leaf) <= _LEAF_ITEMS or level >= _DEEPEST:
        return leaf
    parts: list[dict[Any, Any]] = [{} for _ in range(_FANOUT)]
    shift = level * _FANOUT_BITS
    for key, value in leaf.items():
        parts[hash(key) >> shift & _MASK][key] = value
    return tuple(_grown(part, level + 1) for part in parts)


def _with(node: _Node, bits: int, level: int, key: Any, value: Any) -> tuple[_Node, int]:
    """The node with `value` under `key`, and how many keys it has more."""
    if node.__class__ is tuple:
        place = bits & _MASK
        part, grown = _with(node[place], bits >> _FANOUT_BITS, level + 1, key, value)
        return (*node[:place], part, *node[place + 1 :]), grown
    leaf = {**node, key: value}
    grown = len(leaf) - len(node)
    return (_grown(leaf, level) if grown else leaf), grown


def _without(node: _Node, bits: int, key: Any) -> _Node:
    if node.__class__ is tuple:
        place = bits & _MASK
        return (*node[:place], _without(node[place], bits >> _FANOUT_BITS, key), *node[place + 1 :])
    leaf = dict(node)
    del leaf[key]
    return leaf


def _compare(before: _Node, after: _Node, changed: list[Any]) -> None:
    if before is after:
        return
    if before.__class__ is tuple and after.__class__ is tuple:
        for earlier, later in zip(before, after, strict=True):
            if earlier is not later:
                _compare(earlier, later, changed)
        return
    old, new = _whole(before), _whole(after)
    changed += [key for key, value in new.items() if old.get(key, _NOTHING) is not value]
    changed += [key for key in old if key not in new]


def _whole(node: _Node) -> dict[Any, Any]:
    if node.__class__ is tuple:
        return {key: value for leaf in _leaves(node) for key, value in leaf.items()}
    leaf: dict[Any, Any] = node
    return leaf


# ---- bytes ----------------------------------------------------------------------------------


def to_plain(value: Any) -> Any:
    """The dict of a `Map`, for a msgspec encoder. Raises `NotImplementedError` for anything else."""
    if isinstance(value, Map):
        return _whole(value._root)
    raise NotImplementedError(f"objects of type {type(value).__name__} have no place in a state")


def _from_plain(kind: Any, plain: Any) -> Any:
    """A `Map` of type `kind` from the dict that stands for it. Raises `msgspec.ValidationError`."""
    if isinstance(kind, type) and issubclass(kind, Map):
        return kind(msgspec.convert(plain, kind.plain, dec_hook=_from_plain))
    raise NotImplementedError(f"objects of type {kind!r} have no place in a state")


encode: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder(enc_hook=to_plain).encode
"""A state, or a part of one, as msgpack."""
_encode_sorted: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder(enc_hook=to_plain, order="deterministic").encode
_SHORT_MAP: Final = 16
"""Entries from which on a map needs the long header."""


def encode_canonical(state: Any) -> bytes:
    """The same with the keys of every map sorted, for hashes and keyframes. A field that is absent (`UNSET`) leaves no
    trace, however many fields the struct has: msgspec gives a struct of 16 fields the long header of a map also where
    most are absent, so that a state would hash otherwise as soon as its type gains the 16th."""
    data = _encode_sorted(state)
    if data[:2] == b"\xde\x00" and data[2] < _SHORT_MAP:
        return bytes((0x80 | data[2],)) + data[3:]
    return data


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """A function that makes a state of type `kind` from its msgpack. Raises what msgspec raises."""
    return msgspec.msgpack.Decoder(kind, dec_hook=_from_plain).decode

"""Partial answers: what a node has computed of its rows for a plan, and how two of them become one. Pure.

Groups are rows of a list: the values of the keys, then the values of the aggregates, in the order of the plan. A sketch
is the bytes of a HyperLogLog sketch (Apache DataSketches), buckets are counts by the number of a bucket. A partial
answer holds at most `MAX_GROUPS` groups; those that found no place are counted, and the answer says so.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from datasketches import hll_sketch, hll_union, tgt_hll_type
from msgspec import Meta

from server.errors import BadInput
from server.questions.plan import Plan, bucket_value

MAX_GROUPS: Final = 10_000
SKETCH_LG_K: Final = 12
"""4,096 registers: a standard error of 1.6 %."""
MAX_BUCKETS: Final = 8_192
NAN: Final = math.nan
"""The one that stands for all: two of them are different keys of a group."""

Row = list[Any]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Names = Annotated[list[Annotated[str, Meta(max_length=1_000)]], Meta(max_length=10_000)]


class Coverage(msgspec.Struct, frozen=True, array_like=True):
    """How complete an answer is: nodes that answered of nodes there are, rows scanned of rows held, calls and the like
    that the scanned rows stand for, groups that found no place; `from_ms` and `to_ms`: the times between which rows
    were held, 0 for none. `missing`: nodes that did not answer in time, `troubles`: what nodes said about theirs.
    `age_ms`: of the oldest of the snapshots that were scanned, since it was begun.
    `reloading`: nodes that lost rows of this table and load them from the store again, `rows_missing`: rows that these
    know to be missing still."""

    nodes: Count = 1
    answered: Count = 1
    rows_held: Count = 0
    rows_scanned: Count = 0
    stand_for: Count = 0
    groups_left_out: Count = 0
    from_ms: Count = 0
    to_ms: Count = 0
    missing: Names = []
    troubles: Names = []
    age_ms: Count = 0
    reloading: Count = 0
    rows_missing: Count = 0

    def plus(self, other: "Coverage") -> "Coverage":
        """The coverage of both together."""
        froms = [at for at in (self.from_ms, other.from_ms) if at]
        return Coverage(
            self.nodes + other.nodes, self.answered + other.answered, self.rows_held + other.rows_held,
            self.rows_scanned + other.rows_scanned, self.stand_for + other.stand_for,
            self.groups_left_out + other.groups_left_out, min(froms, default=0), max(self.to_ms, other.to_ms),
            sorted({*self.missing, *other.missing}), sorted({*self.troubles, *other.troubles})[:16],
            max(self.age_ms, other.age_ms),
            self.reloading + other.reloading, self.rows_missing + other.rows_missing,
        )  # fmt: skip


NOBODY: Final = Coverage(0, 0)


class Partial(msgspec.Struct, frozen=True, array_like=True):
    """A partial answer: groups, or rows of the table, and its coverage."""

    rows: list[Row]
    coverage: Coverage


class Merger:
    """Puts partial answers to one plan together. The order in which they come makes no difference but to sketches'
    estimates, within their error, and to which groups find no place where there are too many."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._keys = len(plan.keys)
        self._groups: dict[tuple[Any, ...], list[Any]] = {}
        self._rows: list[Row] = []
        self._left_out = 0
        self._coverage = NOBODY
        self._kinds: dict[int, str] = {}

    def add_checked(self, partial: Partial) -> None:
        """Take in the partial answer of a node, which may be of another version. Raises `BadInput`, and has changed
        nothing, where it is none to this plan, or has values of another type than those before it."""
        width = self._keys + len(self._plan.aggregates)
        if any(len(row) != width for row in partial.rows):
            raise BadInput("a partial answer does not fit its question")
        kinds = dict(self._kinds)
        for at, values in enumerate(zip(*partial.rows, strict=True)):
            op = self._plan.aggregates[at - self._keys].op if at >= self._keys else "key"
            if op == "sketch":
                sound = all(value is None or _is_sketch(value) for value in values)
            elif op == "buckets":
                sound = all(value is None or _are_buckets(value) for value in values)
            else:
                found = {_KINDS.get(kind, "") for kind in set(map(type, values))} - {"null"}
                kind = min(found, default="")
                sound = not found or (len(found) == 1 and bool(kind) and kinds.setdefault(at, kind) == kind)
                sound = sound and not (op == "add" and found and kind != "number")
            if not sound:
                raise BadInput("a partial answer does not fit its question")
        self._kinds = kinds
        self.add(partial)

    def add(self, partial: Partial) -> None:
        """Take in a partial answer that was made here."""
        self._coverage = self._coverage.plus(partial.coverage)
        if not self._plan.grouped:
            self._rows = newest(self._plan, [*self._rows, *partial.rows])
            return
        for row in partial.rows:
            self.add_group(row)

    def add_group(self, row: Sequence[Any]) -> None:
        """Take in one group."""
        key = key_of(row[: self._keys])
        held = self._groups.get(key)
        if held is not None:
            for number, aggregate in enumerate(self._plan.aggregates):
                held[number] = _merged(aggregate.op, held[number], row[self._keys + number])
        elif len(self._groups) < MAX_GROUPS:
            self._groups[key] = list(row[self._keys :])
        else:
            self._left_out += 1

    def result(self, more: Coverage = NOBODY) -> Partial:
        """All of it as one partial answer; `more` is added to the coverage."""
        left_out = Coverage(0, 0, groups_left_out=self._left_out)
        coverage = self._coverage.plus(more).plus(left_out)
        if not self._plan.grouped:
            return Partial(self._rows, coverage)
        return Partial([[*key, *values] for key, values in self._groups.items()], coverage)


def newest(plan: Plan, rows: list[Row]) -> list[Row]:
    """The first rows of a plan without groups, in its order: at most its limit of them."""
    for part in reversed(plan.order.removeprefix(" ORDER BY ").split(", ")) if plan.order else ():
        name, _, down = part.partition(" ")
        rows.sort(key=lambda row, at=int(name[1:]): _sortable(row[at]), reverse=bool(down))  # type: ignore[misc]
        if down:
            rows.sort(key=lambda row, at=int(name[1:]): row[at] is None)  # type: ignore[misc]
    return rows[: plan.limit]


def finished(plan: Plan, partial: Partial) -> list[Row]:
    """The merged groups with a value for each aggregate: of a sketch its estimate, of buckets the quantile."""
    rows = [list(row) for row in partial.rows]
    if plan.grouped and not plan.keys and not rows:
        rows = [[None] * len(plan.aggregates)]
    first = len(plan.keys)
    for number, aggregate in enumerate(plan.aggregates, first):
        if aggregate.op == "sketch":
            for row in rows:
                row[number] = 0 if row[number] is None else round(hll_sketch.deserialize(row[number]).get_estimate())
        elif aggregate.op == "buckets":
            for row in rows:
                row[number] = quantile(row[number], aggregate.wants)
    return rows


def quantile(buckets: dict[int, int] | None, share: float) -> float | None:
    """The value below which `share` of the counted values are, within 1 %; None: there are none."""
    total = sum((buckets or {}).values())
    if not buckets or not total:
        return None
    rank, seen = share * (total - 1), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen > rank:
            return bucket_value(bucket)
    return bucket_value(max(buckets))


def sketch_of(values: Iterable[Any]) -> bytes:
    """A sketch of different values."""
    sketch = hll_sketch(SKETCH_LG_K, tgt_hll_type.HLL_8)
    for value in values:
        if value is not None:
            sketch.update(value if isinstance(value, (int, float, str)) else str(value))
    return bytes(sketch.serialize_compact())


def _merged(op: str, a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if op == "add":
        total = a + b
        return total if abs(total) < 2**63 else float(total)  # no engine and no message has longer ones
    if op == "least":
        return min(a, b, key=_sortable)
    if op == "greatest":
        return max(a, b, key=_sortable)
    if op == "sketch":
        union = hll_union(SKETCH_LG_K)
        union.update(hll_sketch.deserialize(a))
        union.update(hll_sketch.deserialize(b))
        return bytes(union.get_result(tgt_hll_type.HLL_8).serialize_compact())
    for bucket, count in b.items():
        a[bucket] = a.get(bucket, 0) + count
    if len(a) > MAX_BUCKETS:
        raise BadInput("a quantile has too many buckets")
    return a


def key_of(values: Sequence[Any]) -> tuple[Any, ...]:
    """The key of a group."""
    return tuple(NAN if isinstance(value, float) and math.isnan(value) else value for value in values)


def _sortable(value: Any) -> tuple[int, Any]:
    """A value in the engine's order, in which nothing is last, and before it what is no number."""
    if value is None:
        return 2, 0
    return (1, 0) if isinstance(value, float) and math.isnan(value) else (0, value)


_KINDS: Final[dict[type, str]] = {
    int: "number", float: "number", bool: "bool", str: "text", datetime: "time", bytes: "bytes", type(None): "null",
}  # fmt: skip
"""Values that a group may have; of one column all are of one kind."""
_ESTIMATES: Final = struct.Struct("<3d")


def _is_sketch(data: Any) -> bool:
    """Whether these are the bytes of a sketch as `sketch_of` makes them, in any of its three modes: the library frees
    memory that is not its own where they say of themselves what is not so."""
    if not isinstance(data, bytes) or len(data) < 8 or data[1:4] != bytes((1, 7, SKETCH_LG_K)):
        return False
    preamble, log_room, flags, count, mode = data[0], data[4], data[5], data[6], data[7]
    if flags & ~0x14 != 8:
        return False
    if mode == 8:  # a list
        return (preamble, log_room) == (2, 3) and count <= 8 and len(data) == 8 + 4 * count
    if mode == 9:  # a set
        count = int.from_bytes(data[8:12], "little")
        return preamble == 3 and 5 <= log_room <= 9 and count <= 3 << (log_room - 2) and len(data) == 12 + 4 * count
    if (preamble, log_room, count, mode, len(data)) != (10, 0, 0, 10, 40 + 2**SKETCH_LG_K):
        return False
    zeros, more = int.from_bytes(data[32:36], "little"), int.from_bytes(data[36:40], "little")
    sums = _ESTIMATES.unpack_from(data, 8)
    sound = zeros <= 2**SKETCH_LG_K and not more and all(0 <= each < 1e18 for each in sums)
    return sound and int(np.frombuffer(data, np.uint8, offset=40).max()) < 64


def _are_buckets(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > MAX_BUCKETS:
        return False
    return all(type(bucket) is int is type(count) and 0 <= count < 2**63 for bucket, count in value.items())

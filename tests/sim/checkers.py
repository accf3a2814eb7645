"""Checks of what must be true of a run, read from the history that clients saw. Pure.

Each checker takes values of `history.py` and returns its violations as sentences, none if all
is well. `tests/sim/test_checkers.py` plants a fault for each.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from game.messages import Accepted, MatchReport, Saved
from game.player.messages import ProfileSet
from game.player.state import PlayerState
from game.saved_commands import SavedCommands
from server.ids import NodeAddress
from tests.sim.history import (
    Answered,
    Asked,
    Command,
    Connected,
    Excuse,
    History,
    NodeReport,
    Pushed,
    Saw,
    Served,
    Stored,
    StoredEvent,
    Subscribed,
)

T = TypeVar("T")
Violations = list[str]
PROMPT_S = 3.0
UNDER_WAY_S = 0.5
"""An answer may have been under way for so long when its node died."""


# ---- streams ---------------------------------------------------------------------------------


def one_content_per_number(history: History) -> Violations:
    """No two clients see different events under one number of one stream."""
    first: dict[tuple[str, int], Saw] = {}
    out = []
    for seen in _each(history, Saw):
        other = first.setdefault((seen.topic, seen.seq), seen)
        if other.event != seen.event:
            out.append(
                f"{seen.topic} #{seen.seq} is {other.event!r} for {other.client} and {seen.event!r} for {seen.client}"
            )
    return out


def subscriptions_in_order(history: History) -> Violations:
    """Every subscription gets its events from where it began, in order, each exactly once."""
    expected: dict[tuple[str, int], int] = {}
    out = []
    for item in history:
        if isinstance(item, Subscribed):
            expected[item.client, item.subscription] = item.from_seq
        elif isinstance(item, Saw):
            key = (item.client, item.subscription)
            due = expected.get(key)
            if due is None:
                out.append(f"{item.client} got {item.topic} #{item.seq} without a subscription")
            elif item.seq != due:
                out.append(f"{item.client} got {item.topic} #{item.seq} where #{due} was due, at {item.at:.3f} s")
            expected[key] = item.seq + 1
    return out


def streams_complete(history: History, stored: Stored, topics: Iterable[str]) -> Violations:
    """After convergence every client that watches one of `topics` has its whole stored log."""
    newest: dict[tuple[str, str], int] = {}
    for item in history:
        if isinstance(item, Subscribed):
            newest[item.client, item.topic] = item.from_seq - 1
        elif isinstance(item, Saw):
            newest[item.client, item.topic] = item.seq
    ends = {topic: stored.logs[topic][-1].seq for topic in topics if stored.logs.get(topic)}
    return [
        f"{client} has {topic} up to #{seq}, the store up to #{ends[topic]}"
        for (client, topic), seq in newest.items()
        if topic in ends and seq != ends[topic]
    ]


def seen_is_stored(history: History, stored: Stored) -> Violations:
    """Every event that a client saw is the one that the store holds under its number."""
    logs = {topic: {entry.seq: entry.event for entry in entries} for topic, entries in stored.logs.items()}
    return [
        f"{seen.client} saw {seen.topic} #{seen.seq} = {seen.event!r}, stored is {held!r}"
        for seen in _each(history, Saw)
        if (held := logs.get(seen.topic, {}).get(seen.seq)) != seen.event
    ]


def logs_without_gap(stored: Stored) -> Violations:
    """A stored log is numbered 1, 2, 3, ..."""
    return [
        f"{topic} is numbered {[entry.seq for entry in entries]}"
        for topic, entries in stored.logs.items()
        if [entry.seq for entry in entries] != list(range(1, len(entries) + 1))
    ]


# ---- requests and sessions -------------------------------------------------------------------


def one_answer_each(history: History) -> Violations:
    """A request gets at most one answer, and no answer comes without its request."""
    open_requests: set[tuple[str, int]] = set()
    out = []
    for item in history:
        if isinstance(item, Asked):
            open_requests.add((item.client, item.request_id))
        elif isinstance(item, Answered):
            if (item.client, item.request_id) not in open_requests:
                out.append(f"{item.client} got an answer too many for request {item.request_id}: {item.reply!r}")
            open_requests.discard((item.client, item.request_id))
    return out


def pushes_in_order(history: History) -> Violations:
    """Over all connections of one session, pushes are numbered 1, 2, 3, ... A session that
    says it is not recovered is a new one."""
    newest: dict[str, int] = {}
    out = []
    for item in history:
        if isinstance(item, Connected) and not item.recovered:
            newest[item.session] = 0
        elif isinstance(item, Pushed):
            due = newest.get(item.session, 0) + 1
            if item.seq != due:
                out.append(f"{item.client} got push {item.seq} of session {item.session} where {due} was due")
            newest[item.session] = item.seq
    return out


def served_promptly(history: History, since: float, within_s: float = PROMPT_S) -> Violations:
    """A client gets whatever it wants from `since` on within `within_s`, repetitions included."""
    return [
        f"{served.client} waited {served.at - served.since:.1f} s at {served.since:.3f}, long after all faults"
        for served in _each(history, Served)
        if served.since >= since and served.at - served.since > within_s
    ]


# ---- acknowledged changes --------------------------------------------------------------------


def acknowledged_is_stored(history: History, stored: Stored, excuses: Sequence[Excuse] = ()) -> Violations:
    """Every acknowledged change is in the store after a clean stop: the events of a match
    command under the numbers of its answer, a profile's change in the commands that the final
    state remembers, under its version. Write-behind changes that were only in the memory of a
    node that died, or were counted as lost, are excused."""
    asked = _asked(history)
    lost = _excused(excuses)
    out = []
    for answer in _each(history, Answered):
        request = asked.get((answer.client, answer.request_id))
        if request is None:
            continue
        if isinstance(answer.reply, Accepted) and request.command is not None:
            out += _log_holds(answer.reply, request.command, stored)
        elif isinstance(answer.reply, Saved) and not lost(answer):
            out += _state_holds(answer.reply, request, stored)
    return out


def _excused(excuses: Sequence[Excuse]) -> Callable[[Answered], bool]:
    """Whether the change of an answer may be lost."""
    by_id: dict[str, list[Excuse]] = defaultdict(list)
    for excuse in excuses:
        by_id[excuse.id].append(excuse)

    def lost(answer: Answered) -> bool:
        assert isinstance(answer.reply, Saved)
        version = answer.reply.version
        return any(
            one.above < version <= one.upto and answer.at <= one.until + UNDER_WAY_S
            for one in by_id.get(answer.reply.entity, ())
        )

    return lost


def _log_holds(reply: Accepted, command: Command, stored: Stored) -> Violations:
    entries = {entry.seq: entry for entry in stored.logs.get(f"match/{reply.match}", [])}
    out = []
    for seq in range(reply.first_seq, reply.next_seq):
        entry = entries.get(seq)
        if entry is None:
            out.append(f"{command} was acknowledged as match/{reply.match} #{seq}, which is not stored")
        elif entry.command != command:
            out.append(f"{command} was acknowledged as match/{reply.match} #{seq}, stored there is {entry.command}")
    return out


def _state_holds(reply: Saved, asked: Asked, stored: Stored) -> Violations:
    held = stored.states.get(reply.entity)
    if held is None or held.version < reply.version:
        return [f"{reply.entity} version {reply.version} was acknowledged, stored is {held and held.version}"]
    request = asked.request
    if held.version == reply.version and isinstance(request, ProfileSet):
        name = getattr(held.state, "display_name", None)
        if name != request.display_name:
            return [f"{reply.entity} version {reply.version} was {request.display_name!r}, stored is {name!r}"]
    if isinstance(request, ProfileSet) and isinstance(held.state, PlayerState):
        saved = held.state.answered.get(request.lineage, SavedCommands())
        versions = [one.version for one in saved.recent if one.command == request.command]
        if versions != [reply.version] and request.command > saved.floor:
            return [f"{asked.command} made {reply.entity} {reply.version}, the final one has it as {versions}"]
    return []


def same_command_same_answer(history: History, excuses: Sequence[Excuse] = ()) -> Violations:
    """A repeated command repeats its first answer; two commands never share a version. As for
    `acknowledged_is_stored`, what a crash may have lost does not count."""
    asked = _asked(history)
    lost = _excused(excuses)
    answers: dict[Command, bytes] = {}
    versions: dict[tuple[str, int], Command] = {}
    out = []
    for answer in _each(history, Answered):
        request = asked.get((answer.client, answer.request_id))
        if request is None or request.command is None or not isinstance(answer.reply, Accepted | Saved):
            continue
        if isinstance(answer.reply, Saved) and lost(answer):
            continue
        plain = msgspec.msgpack.encode(msgspec.structs.replace(answer.reply, id=0))
        if answers.setdefault(request.command, plain) != plain:
            out.append(f"{request.command} was answered in two ways, the second is {answer.reply!r}")
        if isinstance(answer.reply, Saved):
            owner = versions.setdefault((answer.reply.entity, answer.reply.version), request.command)
            if owner != request.command:
                out.append(f"{owner} and {request.command} both made {answer.reply.entity} {answer.reply.version}")
    return out


def commands_once(history: History, stored: Stored) -> Violations:
    """Each command took effect at most once: in a log, its entries stand together, and none is
    there more often than the command holds it."""
    asked = {item.command: item.request for item in _each(history, Asked) if item.command is not None}
    out = []
    for topic, entries in stored.logs.items():
        runs: dict[Command, list[list[StoredEvent]]] = defaultdict(list)
        before: Command | None = None
        for entry in entries:
            if entry.command is not None:
                if entry.command != before:
                    runs[entry.command].append([])
                runs[entry.command][-1].append(entry)
            before = entry.command
        for command, parts in runs.items():
            if len(parts) > 1:
                out.append(f"{command} took effect {len(parts)} times in {topic}, at {[run[0].seq for run in parts]}")
            allowed = Counter(_events_of(asked.get(command)))
            for event, count in Counter(entry.event for run in parts for entry in run).items():
                if count > max(1, allowed[event]):
                    out.append(f"{command} put {event!r} into {topic} {count} times")
    return out


def _events_of(request: object) -> list[bytes]:
    """The events that a request itself names, as they are logged."""
    if isinstance(request, MatchReport):
        return [msgspec.msgpack.encode(event) for event in request.events]
    return []


# ---- the cluster after convergence ------------------------------------------------------------


def views_equal(nodes: Sequence[NodeReport]) -> Violations:
    """All living nodes have one view, which holds exactly them, and one slot table."""
    out = []
    for node in nodes[1:]:
        if node.digest != nodes[0].digest:
            out.append(f"{node.address} and {nodes[0].address} have different views")
        if node.slots != nodes[0].slots:
            wrong = [slot for slot in node.slots if node.slots[slot] != nodes[0].slots.get(slot)]
            out.append(f"{node.address} and {nodes[0].address} differ in the owners of slots {wrong[:5]}")
    living = [node.address for node in nodes]
    out += [
        f"{node.address} believes in {sorted(node.members)}, alive are {sorted(living)}"
        for node in nodes
        if sorted(node.members) != sorted(living)
    ]
    return out


def slots_owned(nodes: Sequence[NodeReport]) -> Violations:
    """Every slot has an owner, and it is alive."""
    living = {node.address for node in nodes}
    return [
        f"{node.address}: slot {slot} belongs to {owner}"
        for node in nodes
        for slot, owner in node.slots.items()
        if owner not in living
    ]


def one_activation_each(nodes: Sequence[NodeReport]) -> Violations:
    """An actor has at most one activation in the cluster."""
    places = _places(nodes)
    return [f"{actor} is active on {where}" for actor, where in places.items() if len(where) > 1]


def directory_true(nodes: Sequence[NodeReport]) -> Violations:
    """Directory entries stand at the owner of their slot and point to live activations, and an
    activation that is not on its slot's owner has its entry there."""
    places = _places(nodes)
    by_address = {node.address: node for node in nodes}
    out = []
    for node in nodes:
        for actor, where in node.directory.items():
            if where not in places.get(actor, []):
                out.append(f"{node.address} has {actor} at {where}, where it is not active")
            if node.owners.get(actor, node.address) != node.address:
                out.append(f"{node.address} has an entry of {actor}, whose slot belongs to {node.owners[actor]}")
        for actor in node.activations:
            owner = node.owners.get(actor)
            if owner is None or owner == node.address:
                continue
            entry = by_address[owner].directory.get(actor) if owner in by_address else None
            if entry != node.address:
                out.append(f"{actor} is active on {node.address}, its slot's owner {owner} has {entry}")
    return out


def none_left(tasks: Mapping[str, Sequence[str]]) -> Violations:
    """A stopped process has no task any more."""
    return [f"{process} left {len(names)} tasks: {sorted(names)[:10]}" for process, names in tasks.items() if names]


# ---- all together ----------------------------------------------------------------------------


def check_history(
    history: History, stored: Stored, topics: Iterable[str], excuses: Sequence[Excuse] = ()
) -> Violations:
    """Everything that the history and the store after a clean stop can show. `topics` are the
    streams whose watchers must have all of it; `excuses` are the write-behind changes that may be
    lost."""
    return [
        *one_content_per_number(history),
        *subscriptions_in_order(history),
        *streams_complete(history, stored, topics),
        *seen_is_stored(history, stored),
        *logs_without_gap(stored),
        *one_answer_each(history),
        *pushes_in_order(history),
        *acknowledged_is_stored(history, stored, excuses),
        *same_command_same_answer(history, excuses),
        *commands_once(history, stored),
    ]


def check_cluster(nodes: Sequence[NodeReport]) -> Violations:
    """Everything that must hold between nodes that have converged."""
    return [*views_equal(nodes), *slots_owned(nodes), *one_activation_each(nodes), *directory_true(nodes)]


def _each(history: History, kind: type[T]) -> list[T]:
    return [item for item in history if isinstance(item, kind)]


def _asked(history: History) -> dict[tuple[str, int], Asked]:
    return {(item.client, item.request_id): item for item in history if isinstance(item, Asked)}


def _places(nodes: Sequence[NodeReport]) -> dict[str, list[NodeAddress]]:
    places: dict[str, list[NodeAddress]] = {}
    for node in nodes:
        for actor in node.activations:
            places.setdefault(actor, []).append(node.address)
    return places

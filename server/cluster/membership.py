"""Membership by gossip: the library kinship (SWIM with Lifeguard) behind `ports.Membership`.

The protocol runs on a thread of its own, so a busy interpreter does not get this node declared
dead. A node's fields travel as gossip metadata, 512 bytes at most, so their keys are single
letters. Fields of a peer are input from the network: a peer whose fields cannot be read is no member,
and counted.

In gossip a node is called `node#incarnation@database`, with the first digits of the database's name: another database
gives out the same incarnations. What follows the incarnation is for the library only. The library holds on to the
name of a member that it believes alive or recently dead, and would refuse a node that restarts quickly on another
port. Under a name of its own each run joins at once; of several runs of one node the highest incarnation, which the
store issues, is the member.

For the same reason an heir, the next process of a run, has a name of its own: `node#incarnation.generation`, while the
first process has none after the incarnation. They are one member, told by its newest generation, and it vanishes only
when none of them is heard any more: its predecessor, which ends without a goodbye, is dead to the library some seconds
later, when the heir has long been heard. An heir begins with the members that its predecessor heard (`inherit`): each
counts as heard until gossip hears it, or `CARRIED_S` are over.

A node that was itself cut off or stopped sees no event of it. It learns of that from its own
clock and from the store, never from here.
"""

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Final

import kinship
import msgspec
import structlog

from server.cluster import terms
from server.cluster.view import Member, MemberState
from server.errors import BadInput, BadSetting, Unavailable
from server.ids import NODE_PATTERN, Incarnation, NodeId
from server.runtime.listening import is_every
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings
from server.transport.addresses import split_endpoint
from server.wire.codec import decoded

log = structlog.get_logger(__name__)

FORMAT: Final = "1"
RESOLVE_TIMEOUT_S: Final = 10.0
LEAVE_TIMEOUT_S: Final = 2.0
NAME_DIGITS: Final = 12
SEEK_S: Final = 5.0
"""Pause after which a node that hears nobody asks its seeds again; the library would wait for up to a minute."""
CARRIED_S: Final = 10.0
"""Time for which members that an heir was told of count as heard: two rounds of `SEEK_S`."""
PORT_S: Final = 2.0
"""Time for which an heir waits for its predecessor's port: that process is gone, and the system may still tidy up."""
LINGER_S: Final = 0.1
"""The library's thread may still be inside the interpreter for a moment after `close` has
returned; an interpreter that ends in that moment crashes."""

_STATES: Final[dict[str, MemberState]] = {"j": "joining", "u": "up", "l": "leaving"}
_LETTERS: Final = {state: letter for letter, state in _STATES.items()}
_FIELDS: Final = {
    "cluster": "cluster",
    "name": "node",
    "keys": "security.cluster_key",
    "probe_interval": "gossip.probe_interval_s",
    "probe_timeout": "gossip.probe_timeout_s",
    "gossip_interval": "gossip.gossip_interval_s",
}
_NODE: Final = re.compile(NODE_PATTERN, re.ASCII)


def to_meta(member: Member) -> dict[str, str]:
    """The metadata of `member`. `suspect` is not in it: only others can say that."""
    return {
        "v": FORMAT,
        "w": str(member.weight),
        "s": _LETTERS[member.state],
        "t": member.transport,
        "c": member.client_url,
        "a": member.admin_url,
        "l": str(member.load),
        "g": str(member.lag_ms),
        **({"b": str(member.since), "m": str(member.since_part_ms)} if member.since else {}),
        **({"h": "1"} if member.knows_heirs else {}),
        **terms.to_meta(member.terms),
    }


def gossip_name(member: Member) -> str:
    """The name under which the library knows `member`."""
    name = f"{member.address}.{member.generation}" if member.generation else str(member.address)
    return f"{name}@{member.terms.database[:NAME_DIGITS]}" if member.terms.database else name


def from_meta(name: str, meta: Mapping[str, str], suspect: bool) -> Member:
    """The member that `meta` under the gossip name `name` describes. Raises `BadInput` if it
    describes none."""
    node, _, run = name.partition("@")[0].partition("#")
    incarnation, dot, generation = run.partition(".")
    if _NODE.fullmatch(node) is None:
        raise BadInput(f"metadata: not a node's name: {name[:60]!r}")
    try:
        if meta["v"] != FORMAT:
            raise BadInput(f"metadata format {meta['v'][:10]!r}")
        member = Member(
            node=NodeId(node),
            incarnation=Incarnation(_number(incarnation)),
            weight=_number(meta["w"]),
            state=_STATES[meta["s"]],
            transport=meta["t"],
            client_url=meta["c"],
            admin_url=meta["a"],
            load=_number(meta.get("l", "0")),
            lag_ms=_number(meta.get("g", "0")),
            suspect=suspect,
            terms=terms.from_meta(meta),
            since=_number(meta.get("b", "0")),
            since_part_ms=_number(meta.get("m", "0")),
            generation=_number(generation) if dot else 0,
            knows_heirs="h" in meta,
        )
    except KeyError as error:
        raise BadInput(f"metadata: {error}") from None
    if not 1 <= member.weight <= 16:
        raise BadInput(f"metadata: weight {member.weight}")
    return member


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadInput(f"metadata: not a number: {text[:20]!r}")
    return int(text)


class CarriedMember(msgspec.Struct, frozen=True, array_like=True):
    """A member as an heir is told of it; `endpoint` is that of its gossip, a seed, empty where that is not known."""

    member: Member
    endpoint: str = ""


class MembershipBequest(msgspec.Struct, frozen=True, array_like=True):
    """Gossip's part of a node that goes over; `endpoint` is the node's own."""

    endpoint: str
    others: tuple[CarriedMember, ...]


_decode_bequest: Final = msgspec.msgpack.Decoder(MembershipBequest).decode


class KinshipMembership:
    """See `ports.Membership`. `key` is the cluster key. Raises `BadSetting` for addresses that are none."""

    def __init__(
        self,
        settings: GossipSettings,
        cluster: str,
        key: bytes,
        metrics: Metrics,
        supervisor: Supervisor,
    ) -> None:
        _check(settings)
        self._settings, self._cluster_label, self._key = settings, cluster, key
        self._metrics, self._supervisor = metrics, supervisor
        self._cluster: kinship.Cluster | None = None
        self._me: Member | None = None
        self._said: Member | None = None  # the fields that the others were told last
        self._members: tuple[Member, ...] = ()
        self._on_change: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lost_events = 0
        self._name_conflicts = 0
        self._seeds = list(settings.seeds)
        self._bind = settings.bind
        self._told: tuple[Member, ...] = ()
        """Members that the predecessor heard."""
        self._carried: dict[tuple[NodeId, bool], Member] = {}
        """Members of these that gossip has not heard yet, each by its node and whether it is foreign."""
        self._uncarry: asyncio.TimerHandle | None = None

    @property
    def endpoint(self) -> str:
        """`host:port` of this node's gossip, for others to use as a seed; after `start`."""
        return self._cluster.local.addr if self._cluster is not None else ""

    @property
    def others(self) -> list[str]:
        """`host:port` of the gossip of every other node that is heard, foreign ones too: seeds for a successor."""
        if self._cluster is None or self._me is None:
            return []
        mine = gossip_name(self._me)
        return sorted(peer.addr for peer in self._cluster.members() if peer.name != mine)

    async def start(self, me: Member, on_change: Callable[[], None]) -> None:
        """Join. A seed that does not answer is no error: it is tried again in the background.
        Raises `Unavailable` (port, seed names) and `BadSetting`."""
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + (PORT_S if me.generation else 0.0)
        while True:
            cluster = kinship.Cluster(self._config(me))
            try:
                await cluster.start()
                break
            except OSError as error:
                if loop.time() >= patient_until:
                    why = f"setting gossip.bind: cannot gossip on {self._bind}: {error}"
                    raise Unavailable(why) from None
                await asyncio.sleep(PORT_S / 40)
            except kinship.JoinError as error:
                raise Unavailable(f"setting gossip.seeds: {error}") from None
        self._carried = {(it.node, bool(terms.differences(me.terms, it.terms))): it for it in self._told}
        if self._carried:
            self._uncarry = loop.call_later(CARRIED_S, self._drop_carried)
        self._cluster, self._me, self._said = cluster, me, me
        events = cluster.events()  # before the first snapshot, so that nothing falls between
        self._refresh()
        self._on_change = on_change
        self._tasks = [
            self._supervisor.spawn(self._follow(events), "gossip events"),
            self._supervisor.every(self._settings.load_interval_s, self._tell, "gossip load"),
            self._supervisor.every(SEEK_S, self._seek, "gossip seeds"),
        ]

    def members(self) -> tuple[Member, ...]:
        return self._members

    def bequeath(self) -> bytes:
        """See `ports.Membership`."""
        me, cluster = self._me, self._cluster
        if me is None or cluster is None:
            raise Unavailable("gossip is not running")
        endpoints = {peer.name: peer.addr for peer in cluster.members()}
        others = [CarriedMember(it, endpoints.get(gossip_name(it), "")) for it in self._members if it.node != me.node]
        return msgspec.msgpack.encode(MembershipBequest(self.endpoint, tuple(others)))

    def inherit(self, data: bytes) -> None:
        """See `ports.Membership`."""
        assert self._cluster is None, "inherit before start"
        bequest = decoded(_decode_bequest, data, "bequest of gossip")
        self._told = tuple(carried.member for carried in bequest.others)
        known = dict.fromkeys(carried.endpoint for carried in bequest.others if carried.endpoint)
        self._seeds = list(dict.fromkeys([*self._settings.seeds, *known]))
        self._bind = _same_port(self._settings, bequest.endpoint)

    def _drop_carried(self) -> None:
        """Believe in nobody any more whom gossip has not heard by now."""
        if self._carried:
            log.warning("not heard since the succession", nodes=[str(it.address) for it in self._carried.values()])
            self._carried.clear()
            self._refresh()

    async def update(self, me: Member) -> None:
        """Tell the others of a changed state, weight or address at once; of load and lag at most every
        `load_interval_s`. Raises `BadSetting` if the fields are over 512 bytes."""
        cluster, said = self._cluster, self._said
        if cluster is None or said is None:
            raise Unavailable("gossip is not running")
        self._me = me
        self._refresh()
        if not _same_but_load(me, said):
            await self._say(cluster, me)

    async def leave(self) -> None:
        if self._cluster is not None:
            with contextlib.suppress(kinship.KinshipClosed):
                await self._cluster.leave(timeout=LEAVE_TIMEOUT_S)

    async def close(self) -> None:
        """Stop; without `leave` before it the others see a crash."""
        cluster, self._cluster = self._cluster, None
        self._on_change = None
        if self._uncarry is not None:
            self._uncarry.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if cluster is not None:
            await cluster.close()
            await asyncio.sleep(LINGER_S)

    def stats(self) -> dict[str, int]:
        """The library's counters and ours; ours alone when not running."""
        ours = {"events_lost": self._lost_events, "name_conflicts_seen": self._name_conflicts}
        if self._cluster is None:
            return ours
        with contextlib.suppress(kinship.KinshipClosed):
            return {**dataclasses.asdict(self._cluster.stats()), **ours}
        return ours

    def _config(self, me: Member) -> kinship.Config:
        settings = self._settings
        try:
            return kinship.Config.lan(
                name=gossip_name(me),
                bind=_numeric(self._bind),
                advertise=settings.advertise,
                cluster=self._cluster_label,
                seeds=self._seeds,
                resolve_timeout=RESOLVE_TIMEOUT_S,
                meta=to_meta(me),
                keys=[self._key],
                probe_interval=settings.probe_interval_s,
                probe_timeout=settings.probe_timeout_s,
                suspicion_mult=settings.suspicion_mult,
                gossip_interval=settings.gossip_interval_s,
            )
        except kinship.ConfigError as error:
            if error.field == "meta":
                raise BadSetting("gateway.advertise_url", "the node's addresses are too long for gossip") from None
            field = error.field or "?"
            raise BadSetting(_FIELDS.get(field, f"gossip.{field}"), str(error)) from None

    async def _follow(self, events: kinship.EventStream) -> None:
        """Look at the members after every event; also after `EventsLost`, so that a lost one costs nothing."""
        try:
            async for event in events:
                self._metrics.gossip_events_total += 1
                if isinstance(event, kinship.EventsLost):
                    self._lost_events += event.count
                elif isinstance(event, kinship.NameConflict):
                    self._name_conflicts += 1
                    if self._name_conflicts == 1:
                        log.error(
                            "two nodes of one name and incarnation", node=event.member.name, other=event.other_addr
                        )
                self._refresh()
        except kinship.KinshipClosed as error:
            log.error("gossip stopped", why=str(error))
            self._publish((self._me,) if self._me is not None else (), 0)

    def _refresh(self) -> None:
        me, cluster = self._me, self._cluster
        if me is None or cluster is None:
            return
        newest: dict[tuple[NodeId, bool], Member] = {}
        for peer in cluster.members():
            try:
                member = from_meta(peer.name, peer.meta, peer.state is kinship.State.SUSPECT)
            except BadInput:
                self._metrics.gossip_bad_members_total += 1
                continue
            # A foreign node may have this name too: each database numbers runs by itself.
            name = member.node, bool(terms.differences(me.terms, member.terms))
            known = newest.get(name)
            if known is None or _age(known) < _age(member):
                newest[name] = member
            self._carried.pop(name, None)
        newest = {**self._carried, **newest, (me.node, False): me}
        self._publish(tuple(newest[name] for name in sorted(newest)), sum(foreign for _, foreign in newest))

    def _publish(self, members: tuple[Member, ...], foreign: int) -> None:
        self._metrics.members = len(members) - foreign
        if members != self._members:
            self._members = members
            if self._on_change is not None:
                self._on_change()

    async def _seek(self) -> None:
        """Join again while nobody is heard."""
        cluster = self._cluster
        if cluster is not None and self._seeds and len(cluster.members()) <= 1:
            with contextlib.suppress(kinship.JoinError, kinship.KinshipClosed):
                await cluster.join()

    async def _tell(self) -> None:
        """Pass on a changed load, at the pace of `load_interval_s`. A node that has left has nobody to tell."""
        if self._cluster is not None and self._me is not None and self._me != self._said:
            with contextlib.suppress(Unavailable):
                await self._say(self._cluster, self._me)

    async def _say(self, cluster: kinship.Cluster, me: Member) -> None:
        self._said = me
        try:
            await cluster.set_meta(to_meta(me))
        except kinship.MetaTooLarge:
            raise BadSetting("gateway.advertise_url", "the node's addresses are too long for gossip") from None
        except kinship.KinshipClosed:
            raise Unavailable("gossip is not running") from None


def _age(member: Member) -> tuple[int, int]:
    """The place of a process among those of its node: the newest counts."""
    return member.incarnation, member.generation


def _same_port(settings: GossipSettings, endpoint: str) -> str:
    """The place to bind for an heir of a node whose gossip was at `endpoint`: where any port may be had, the same."""
    host, colon, port = settings.bind.rpartition(":")
    if port != "0" or settings.advertise is not None:
        return settings.bind
    return f"{host}{colon}{endpoint.rpartition(':')[2]}"


def _same_but_load(member: Member, other: Member) -> bool:
    same = msgspec.structs.replace(member, load=other.load, lag_ms=other.lag_ms, suspect=other.suspect)
    return same == other


def _numeric(bind: str) -> str:
    return bind.replace("localhost:", "127.0.0.1:", 1) if bind.startswith("localhost:") else bind


def _check(settings: GossipSettings) -> None:
    """Raises `BadSetting` for an endpoint that is none, and for one that nobody could be told."""
    endpoints = [("gossip.bind", settings.bind), *(("gossip.seeds", seed) for seed in settings.seeds)]
    if settings.advertise is not None:
        endpoints.append(("gossip.advertise", settings.advertise))
    hosts: dict[str, str] = {}
    for field, endpoint in endpoints:
        try:
            hosts[field], _ = split_endpoint(endpoint)
        except BadInput as error:
            raise BadSetting(field, error.message) from None
    told = "gossip.advertise" if settings.advertise is not None else "gossip.bind"
    if is_every(hosts[told]):
        raise BadSetting("gossip.advertise", "needed when gossip.bind means every interface, an address of this node")

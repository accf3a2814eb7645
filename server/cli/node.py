"""The process of one node of a cluster, until SIGTERM or Ctrl-C: what `garrison node` runs."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
import uvloop

from server.cli.config import read_settings
from server.cli.node_options import SUPERVISED, NodeOptions
from server.cli.stop_signals import StopSignals
from server.drivers import (
    build_node,
    gossip_endpoint,
    heard_endpoints,
    node_key,
    start_query_process,
    token_rules,
    upgrade_store,
)
from server.errors import BadSetting, CalledOff, GarrisonError
from server.runtime.admin_token import new_admin_token
from server.runtime.garbage import ShortPasses, collect_all
from server.runtime.loading import no_collection
from server.runtime.service_manager import ServiceManager
from server.settings import Settings
from server.succession.lineage import Lineage
from server.succession.program import STARTED

if TYPE_CHECKING:
    from server.node import Node
    from server.succession.upgrades import Birth

log = structlog.get_logger(__name__)
FILES_LOOK_S = 30.0
"""Time between two looks at the files of certificates and token keys."""
LEASE_LOST_PAUSE_S = 0.5
"""Pause between a run that lost its lease and the next one, so that a store that is away is not pestered."""

FIRST_PROCESS: Final = 1


def run(options: NodeOptions) -> int:
    """Run a node until it is told to end; the program's exit code."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # too early for an upgrade is no reason to die
    if options.supervised or os.getpid() == FIRST_PROCESS:
        _below_supervisor()
    lineage = Lineage(options.succeed) if options.succeed is not None else None
    settings = read_settings(
        options.config,
        options.set_,
        {
            "node": options.name,
            "gateway.port": options.gateway_port,
            "admin.port": options.admin_port,
            "gossip.seeds": options.seeds,
            "app": options.app,
            "store.url": options.store,
        },
    )
    return uvloop.run(_run(settings, lineage))


def _below_supervisor() -> None:
    """Become the supervisor, which starts this program again as its child. Returns only where it is not known how this
    process was started: it can serve then, and not be upgraded."""
    with contextlib.suppress(CalledOff):
        node = STARTED.again(os.environ)
        arguments = [argument for argument in node.arguments if argument != SUPERVISED]
        os.execv(sys.executable, [sys.executable, "-m", "server.cli.supervise", *arguments])


async def _run(settings: Settings, lineage: Lineage | None) -> int:
    """`run_node`. A task that would not end (its name is in the log) does not hold up the process."""
    code = await run_node(settings, lineage)
    if len(asyncio.all_tasks()) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


async def run_node(settings: Settings, lineage: Lineage | None = None) -> int:
    """Run a node until SIGTERM or SIGINT; prints one JSON line to standard output once it
    serves. A node that loses its lease comes back as a new incarnation, which is drained if the one
    before it was. SIGUSR2 is an upgrade, by which this process ends and another goes on. An heir, which has a
    `lineage`, goes on with the run of its predecessor. Returns the exit code."""
    from kinship import log_to_python

    from server.runtime.logs import configure

    configure(settings.log, settings.node)
    log_to_python(logging.WARNING)
    if settings.security.cluster_key is None:
        node_key(settings)  # refused at once where others are meant to join
        log.info("security.cluster_key is not set: this node stays alone, no other can join it")
    signals = StopSignals()
    loop = asyncio.get_running_loop()
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    running: list[Node] = []
    loop.add_signal_handler(signal.SIGUSR2, _upgrade, running)
    reloading = asyncio.ensure_future(_reload(hangup, settings, running))
    passes = ShortPasses(lambda: [node.metrics for node in running])
    passes.begin()
    try:
        return await _serve(settings, signals, running, lineage)
    finally:
        passes.end()
        reloading.cancel()


def _upgrade(running: "list[Node]") -> None:
    """Begin an upgrade: what SIGUSR2 asks for."""
    for node in running:
        if node.upgrading is not None:
            log.info("asked to go on in another process", node=str(node.system.me))
            try:
                node.upgrading.begin()
            except CalledOff as error:
                log.error("the upgrade was called off, the node goes on", why=error.message)


async def _reload(hangup: asyncio.Event, settings: Settings, running: "list[Node]") -> None:
    """Use certificates and token keys that were replaced: when told so by SIGHUP, and now and then by a look at the
    files. A file that cannot be used is told of once, and at each SIGHUP."""
    complaints: dict[str, str] = {}
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FILES_LOOK_S):
                await hangup.wait()
        told = hangup.is_set()
        if told:
            complaints.clear()
        hangup.clear()
        for node in running:
            for name, part in (("gateway", node.listener), ("transport", node.drivers.transport)):
                try:
                    if part.reload(changed_only=not told):
                        log.info(f"certificate of the {name} was read again")
                    complaints.pop(name, None)
                except BadSetting as error:
                    _complain(complaints, name, "certificate was not read again, the one before stays", error)
            _reload_token_keys(complaints, settings, node)


def _reload_token_keys(complaints: dict[str, str], settings: Settings, node: "Node") -> None:
    try:
        if node.gateway.use_token_rules(token_rules(settings)):
            log.info("keys of client tokens were read again", keys=len(node.gateway.token_rules.keys))
        complaints.pop("keys", None)
    except BadSetting as error:
        _complain(complaints, "keys", "keys of client tokens were not read again, those before stay", error)


def _complain(complaints: dict[str, str], what: str, text: str, error: BadSetting) -> None:
    """Log that something of `what` is wrong, unless that is what was logged of it last."""
    if complaints.get(what) != error.message:
        complaints[what] = error.message
        log.error(text, why=error.message)


async def _serve(
    settings: Settings, signals: StopSignals, running: "list[Node]", lineage: Lineage | None = None
) -> int:
    """Run nodes, one after the other, until one of `signals`; the one that serves is in `running`. The first one of an
    heir is that of its predecessor."""
    stop = signals.stop
    querying = await start_query_process(settings) if lineage is None else None
    with no_collection():
        from server.cli.succeeding import let_be_upgraded, succeed  # now, and not when somebody asks: see there

    if settings.store.migrate and lineage is None:
        await upgrade_store(settings)
    made_token = settings.admin.enabled and settings.admin.token is None
    if made_token:
        settings = _with_token(settings)
    manager = ServiceManager(os.environ)
    birth: Birth | None = None
    served = drained = foreign = False
    heard: list[str] = []
    while not stop.is_set():
        if served:
            log.warning("coming back as a new incarnation", node=settings.node)
            collect_all()  # the run before, which is garbage now
            await asyncio.sleep(LEASE_LOST_PAUSE_S)
        try:
            with no_collection():
                if lineage is not None:
                    node, birth = await succeed(settings, lineage)
                    lineage = None
                else:
                    node, birth = build_node(_with_seeds(settings, heard), querying), None
                    await _start(node, drained, foreign)
        except GarrisonError as error:
            if not served:
                raise
            log.warning("cannot come back yet", why=error.message)  # a full disk, a Redis that only reads
            continue
        if made_token and not served:
            log.warning("no admin.token is set: made one for this run", token=settings.admin.token)
        served = True
        running[:], querying = [node], None
        await _first(stop, node.ended, node.serves)
        upgrades = let_be_upgraded(node, settings, made_token, signals, birth)
        if node.serves.is_set():
            _say_ready(node, manager)
            await _first(stop, node.ended)
        foreign = node.is_foreign
        heard = heard_endpoints(node) if foreign else []
        drained = drained or node.drain_progress()["state"] == "leaving"
        running.clear()
        await upgrades.stop()  # READY=1 of one that is called off comes before STOPPING=1
        if stop.is_set():
            manager.stopping()
        await node.stop()
        del node, upgrades  # else the run after it begins beside all that it held
    return 0


async def _start(node: "Node", drained: bool, foreign: bool) -> None:
    """Start a node. The run before it was `drained`, or `foreign` to the cluster that it heard."""
    node.drained = drained
    if foreign:
        node.wary()
    await node.start()


def _with_token(settings: Settings) -> Settings:
    """Settings with a random admin token, kept over new incarnations."""
    admin = msgspec.structs.replace(settings.admin, token=new_admin_token())
    return msgspec.structs.replace(settings, admin=admin)


def _with_seeds(settings: Settings, more: list[str]) -> Settings:
    """Settings with seeds besides those that were set: a run that was foreign to nodes hears them by its successor's
    start, whoever found whom before."""
    seeds = [*settings.gossip.seeds, *(seed for seed in more if seed not in settings.gossip.seeds)]
    return msgspec.structs.replace(settings, gossip=msgspec.structs.replace(settings.gossip, seeds=seeds))


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _say_ready(node: "Node", manager: ServiceManager) -> None:
    assert node.me is not None
    line = {
        "ready": True,
        "node": node.me.node,
        "incarnation": node.me.incarnation,
        "generation": node.me.generation,
        "client_url": node.client_url,
        "admin_url": node.admin_url,
        "gossip": gossip_endpoint(node),
        "pid": os.getpid(),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    manager.ready(f"run {node.me.incarnation} serves")

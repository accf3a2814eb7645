"""The process of a node between two others: how it is given a heir, and how it is one.

Everything that a succession needs is imported, and the account of this program given, when the node begins to serve:
another version may be installed by the time that somebody asks for an upgrade, and nothing of that may come into this
process.
"""

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

import structlog

from server.admin.ports import Upgrading
from server.cli.stop_signals import StopSignals
from server.drivers import build_node, table_versions
from server.errors import GarrisonError
from server.node import Node
from server.runtime.service_manager import ServiceManager
from server.settings import Settings
from server.succession.account import account_of
from server.succession.channel import MAX_ANSWER_BYTES, SocketChannel
from server.succession.fits import Account, misfits
from server.succession.heir import Heir, NoSuccession
from server.succession.launch import HeirProcess, ServiceHerald, launch
from server.succession.lineage import Lineage
from server.succession.predecessor import Predecessor
from server.succession.program import STARTED
from server.succession.upgrades import Birth, Upgrades

TOKEN_VARIABLE = "GARRISON_ADMIN__TOKEN"
FIRST_OTHER = 3
"""The first descriptor that is no standard one."""
REASONS = 3
"""Reasons that are told at a time."""

log = structlog.get_logger(__name__)


def account_of_node(node: Node) -> Account:
    """The account that this program gives of itself, once the node's store is open."""
    app = node.app
    return account_of(node.settings, app, program_version(), node.drivers.store.identity.uuid, table_versions(app))


def program_version() -> str:
    """The version of the program that is installed, for people."""
    try:
        return version("garrison-server")
    except PackageNotFoundError:  # run from a tree that nobody installed
        return "of a source tree"


def let_be_upgraded(
    node: Node, settings: Settings, made_token: bool, signals: StopSignals, birth: Birth | None = None
) -> Upgrades:
    """Let operators upgrade `node`, which serves; `settings.admin.token` goes along where this process has made it, and
    any of `signals` that came too late for this process."""
    account = account_of_node(node)
    environment = dict(os.environ)
    if made_token and settings.admin.token is not None:
        environment[TOKEN_VARIABLE] = settings.admin.token

    heirs: list[int] = []

    def start() -> tuple[HeirProcess, SocketChannel]:
        heir = launch(environment)
        heirs[:] = [heir.pid]
        return heir, SocketChannel(heir.channel, MAX_ANSWER_BYTES, most_descriptors=0)

    def end() -> NoReturn:
        for heir in heirs:
            signals.pass_on(heir)
        os._exit(0)

    def predecessor() -> Predecessor:
        herald = ServiceHerald(ServiceManager(environment))
        return Predecessor(node, start, lambda heir: _misfit(account, heir), end, herald)

    upgrades = Upgrades(predecessor, node.generation, birth)
    node.upgrading = Upgrading(upgrades.begin, upgrades.progress)
    return upgrades


def _misfit(old: Account, new: Account) -> str:
    return "; ".join(misfits(old, new)[:REASONS])


async def succeed(settings: Settings, lineage: Lineage) -> tuple[Node, Birth]:
    """The node, which has gone on in this process. Raises `GarrisonError` where there is no succession, and nothing was
    taken over. Where this process is the only one left and may not go on with the run, it starts anew, as after a
    crash."""
    try:
        node = build_node(settings)
    except GarrisonError as error:
        lineage.tell(error.message)
        raise
    heir = Heir(
        node, SocketChannel(lineage.channel), lambda: account_of_node(node), os.getpid(), lineage.kill_predecessor
    )
    lineage.take_outputs()
    try:
        await heir.run()
    except NoSuccession as error:
        lineage.tell(error.message)
        raise
    except Exception:
        if heir.phase == "serving":  # the predecessor has given the run up
            log.exception("the run cannot go on, a new one begins")
            lineage.kill_predecessor()
            await lineage.take_its_place()  # its ports are free then, and this process is no heir any more
            _start_anew(os.environ)
        raise
    await lineage.take_its_place()
    return node, Birth(round(heir.pause_ms, 3), heir.moved, heir.going)


def _start_anew(environment: Mapping[str, str]) -> None:
    """Become the program that this process was started as, without a predecessor."""
    program = STARTED.again(environment)
    os.closerange(FIRST_OTHER, os.sysconf("SC_OPEN_MAX"))  # an exec leaves open whatever came from the predecessor
    os.execve(program.arguments[0], list(program.arguments), program.environment)

"""`garrison log`: the stored event log of any logged actor, as lines or verified. Reads the store only.

An application may show its own logs better (`garrison replay` does matches); `verify_log` is for it too.
"""

import asyncio
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from server.actors.actor import LoggedActor
from server.cli.common import Config, Json, Set, out, print_json
from server.cli.config import read_settings
from server.cli.stored import opened_store
from server.drivers import load_app
from server.errors import BadInput, Corrupt, NotFound, UnknownRules
from server.eventlog import fold
from server.eventlog.fold import LoggedKind
from server.eventlog.ports import StoredLog
from server.ids import ActorId, kind_of, parse_actor_id
from server.settings import Settings

EXAMPLES = """
Examples:

- `garrison log match/ranked-42` shows every event of one actor's log, a line of JSON each
- `garrison log match/ranked-42 --verify` recomputes its state from the stored bytes and compares
- `garrison log ledger/a --verify --set app=bank:App` does so for an actor of your own application
"""


def log(
    actor: Annotated[str, Parameter(help="The actor, as kind/key.")],
    *,
    verify: Annotated[
        bool, Parameter(help="Check and recompute everything instead of showing it.", negative="", show_default=False)
    ] = False,
    json: Json = False,
    config: Config = None,
    set_: Set = None,
) -> int:
    """Show the stored event log of a logged actor, or verify it."""
    settings = read_settings(config, set_)
    identity = parse_actor_id(actor)
    kind = logged_kind(settings, identity)
    stored = asyncio.run(read_log(settings, identity))
    if verify:
        verify_log(kind, "log", identity, stored, json)
    elif json:
        state = fold.final_state(kind, stored)
        print_json(msgspec.json.encode({"log": identity, "events": stored.next_seq - 1, "state": state}))
    else:
        for step in fold.steps(kind, stored):
            print_json(msgspec.json.encode(step.record))
    return 0


def logged_kind(settings: Settings, identity: ActorId) -> LoggedKind[Any]:
    """The application's description of the actor's kind. Raises `BadInput` where it has no logged actor of it."""
    cls = load_app(settings).actor(kind_of(identity))
    if cls is None or not issubclass(cls, LoggedActor):
        raise BadInput(f"{settings.app} has no logged actor {kind_of(identity)!r}")
    return cls.logged_kind()


async def read_log(settings: Settings, identity: ActorId) -> StoredLog:
    """The whole log of an actor. Raises `NotFound` where it has no event, `BadSetting`, `Unavailable`."""
    async with opened_store(settings) as store:
        stored = await store.read_log(kind_of(identity), identity)
    if stored is None or stored.next_seq == 1:
        raise NotFound(f"the store has no log of {identity}")
    return stored


def verify_log(kind: LoggedKind[Any], noun: str, name: str, stored: StoredLog, json: bool) -> None:
    """Verify a log and print the figures; it is called "`noun` `name`". Raises `Corrupt` for a bad one, after
    printing why where `json` asks for a document. A log of rules that this program does not have is checked as far as
    that goes, and raises `UnknownRules`: it may be good."""
    try:
        verified = fold.verify(kind, stored)
    except UnknownRules as error:
        chain = _chain(noun, name, stored, json)
        if json:
            found = {
                "verified": None,
                "redacted": len(stored.redactions),
                "why": error.message,
                "chain": True,
                **msgspec.structs.asdict(chain),
            }
            print_json(msgspec.json.encode({noun: name, **found}))
        raise UnknownRules(
            f"{noun} {name}: {error.message}; its hash chain of {chain.events:,} events is good"
        ) from None
    except Corrupt as error:
        raise _bad(noun, name, error, json) from None
    if json:
        fields = {field: getattr(verified, field) for field in verified.__struct_fields__ if field != "state"}
        print_json(msgspec.json.encode({noun: name, "verified": True, "redacted": len(stored.redactions), **fields}))
        return
    end = f"the end hash is that of the live {noun}" if verified.end_hash else f"the {noun} has not ended"
    if stored.redactions:
        end = f"redacted: a person was taken out and the {noun} chained anew, {len(stored.redactions)} times"
    out().print(
        f"{noun} {name} verifies: {verified.events:,} events; sealed segments: {verified.segments}, open chunks: "
        f"{verified.open_chunks}, keyframes recomputed: {verified.keyframes}; {end}",
        markup=False,
    )


def _chain(noun: str, name: str, stored: StoredLog, json: bool) -> fold.Chain:
    try:
        return fold.chain(stored)
    except Corrupt as error:
        raise _bad(noun, name, error, json) from None


def _bad(noun: str, name: str, error: Corrupt, json: bool) -> Corrupt:
    if json:
        print_json(msgspec.json.encode({noun: name, "verified": False, "why": error.message}))
    return Corrupt(f"{noun} {name} does not verify: {error.message}")


def register(app: App) -> None:
    """Add the command."""
    app.command(log, name="log", help_epilogue=EXAMPLES)

"""Calls of an erasure to actors of the cluster, as an action of the admin API. `garrison person erase` drives it."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from game.boards.actor import Boards
from game.fields import Key, Lineage
from game.friends.actor import Friends
from game.moderation.actor import Standing
from game.moderation.state import Order
from game.party.actor import Party
from game.player.actor import Player
from server.actors.actor import Actor
from server.actors.app import Action, AdminContext
from server.errors import BadInput, NotFound
from server.eventlog.redaction import is_made_up

ACTORS: Final[Mapping[str, type[Actor[Any]]]] = {cls.kind: cls for cls in (Player, Friends, Standing, Party, Boards)}


class ErasureStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of the action `erase-person`: what actor `kind/key` is to do about `person`. `audit`: the erasure is
    noted in the log of moderation, under the made-up name `key`. `instead`: what stands for the person from now on."""

    step: Literal["erase", "forget", "audit"]
    person: Key
    kind: Literal["player", "friends", "standing", "party", "boards"]
    key: Key
    instead: Key = ""
    lineage: Lineage = ""


async def step(context: AdminContext, body: Any) -> Any:
    """Carry out a step: `found` tells whether there is such an actor, `over` whether nothing is left in it."""
    cls = ACTORS[body.kind]
    if body.step == "audit":
        return await _audit(context, body)
    try:
        if body.step == "forget":
            await context.ask(cls, body.key, cls.forget, body.person, body.instead)  # type: ignore[attr-defined]
            return {"found": True, "over": True}
        if body.key != body.person or cls in (Party, Boards):
            raise BadInput("only the person's own actors are erased")
        over = await context.ask(cls, body.key, cls.erase)  # type: ignore[attr-defined]
        return {"found": True, "over": over is not False}
    except NotFound:
        return {"found": False, "over": True}


async def _audit(context: AdminContext, body: ErasureStep) -> Any:
    if not is_made_up(body.key):
        raise BadInput("the log of moderation has an erasure under a made-up name only")
    order = Order("erase", context.principal.name, context.principal.role, lineage=body.lineage, command=1)
    await context.ask(Standing, body.key, Standing.order, order)
    return {"found": True, "over": True}


ACTIONS: Final[Mapping[str, Action]] = {"erase-person": Action(step, ErasureStep)}

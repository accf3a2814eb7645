"""The actors that answer the messages of parties."""

from collections.abc import Mapping
from typing import Any, Final

from game.party import messages as m
from game.party.actor import Party
from game.party.codes import name_of_new
from game.player.actor import Player
from game.routing import PLAYERS, of_caller
from server.actors.actor import Caller
from server.actors.app import AnyRoute, Route
from server.wire.messages import Request


def _new(caller: Caller, message: Any) -> str:
    return name_of_new(caller.subject, message.lineage, message.command)


def _party(_caller: Caller, message: Any) -> str:
    return str(message.party)


PARTY_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.PartyCreate: Route(Party, Party.create, _new, PLAYERS),
    m.PartyInvite: Route(Player, Player.party_invite, of_caller, PLAYERS),
    m.PartyJoin: Route(Party, Party.join, _party, PLAYERS),
    m.PartyJoinCode: Route(Player, Player.party_join_code, of_caller, PLAYERS, guesses=frozenset({"no_such_code"})),
    m.PartyKick: Route(Party, Party.kick, _party, PLAYERS),
    m.PartyPromote: Route(Party, Party.promote, _party, PLAYERS),
    m.PartyReady: Route(Party, Party.ready, _party, PLAYERS),
    m.PartyLeave: Route(Party, Party.leave, _party, PLAYERS),
    m.PartyDisband: Route(Party, Party.disband, _party, PLAYERS),
    m.PartyRecode: Route(Party, Party.recode, _party, PLAYERS),
    m.PartyPlay: Route(Party, Party.play, _party, PLAYERS),
    m.PartyGet: Route(Party, Party.get, _party, PLAYERS),
    m.PartyInvites: Route(Player, Player.party_invites, of_caller, PLAYERS),
}

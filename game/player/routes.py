"""The actors that answer the messages of players and of their careers."""

from collections.abc import Mapping
from typing import Final

from game.careers.messages import CareerGet
from game.player import messages as m
from game.player.actor import Player
from game.routing import PLAYERS, of_caller, of_player
from server.actors.app import AnyRoute, Route
from server.wire.messages import Request

PLAYER_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.PresenceSet: Route(Player, Player.presence_set, of_caller, PLAYERS),
    m.PresenceGet: Route(Player, Player.presence_get, of_player),
    m.ProfileSet: Route(Player, Player.profile_set, of_caller, PLAYERS),
    m.ProfileGet: Route(Player, Player.profile_get, of_player),
    CareerGet: Route(Player, Player.career_get, of_player),
}

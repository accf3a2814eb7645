"""The game of a studio whose players may host matches themselves, without a game server: `app = game.player_hosts:App`.

A player with a match of its own sends what a host sends, in the session that it has. As a host it is called `player/`
and its name, so that it is never taken for a game server of the same name; it may host a few matches at a time.
"""

from typing import ClassVar, Final

from msgspec.structs import replace

from game import app as game
from game.match.actor import Match
from game.routing import HOSTS
from server.actors.app import EVERYONE, Route


class PlayersMatch(Match):
    PLAYERS_HOST: ClassVar[int] = 2


ROUTES: Final = {
    message: replace(route, actor=PlayersMatch, roles=EVERYONE if route.roles == HOSTS else route.roles)
    if isinstance(route, Route) and route.actor is Match
    else route
    for message, route in game.ROUTES.items()
}
App = replace(
    game.App,
    actors=tuple(PlayersMatch if cls is Match else cls for cls in game.App.actors),
    routes=ROUTES,
)

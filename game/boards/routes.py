"""The actors that answer the messages of leaderboards."""

from collections.abc import Mapping
from typing import Any, Final

from game.boards import messages as m
from game.boards.actor import Boards
from game.routing import PLAYERS
from server.actors.actor import Caller
from server.actors.app import AnyRoute, Route
from server.wire.messages import Request


def _mode(_caller: Caller, message: Any) -> str:
    return str(message.mode)


BOARD_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.BoardTop: Route(Boards, Boards.top, _mode),
    m.BoardAround: Route(Boards, Boards.around, _mode),
    m.BoardFriends: Route(Boards, Boards.friends, _mode, PLAYERS),
}

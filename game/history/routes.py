"""The store queries that answer client messages about matches that are over."""

from collections.abc import Mapping
from typing import Any, Final

from game.history import answers
from game.history.asking import history_params, page_params, viewer
from game.history.messages import MatchHistory, MatchPageGet
from server.actors.actor import Caller
from server.actors.app import AnyRoute, StoreRoute
from server.wire.messages import Request

ROWS_A_MESSAGE: Final = 5
"""Rows of an answer that weigh as much in the sender's rate as a message."""


def _history(caller: Caller, message: MatchHistory) -> dict[str, Any]:
    return history_params(viewer(caller), message)


def _page(caller: Caller, message: MatchPageGet) -> dict[str, Any]:
    return page_params(viewer(caller), message)


def _history_cost(message: MatchHistory) -> int:
    return 1 + message.limit // ROWS_A_MESSAGE


def _page_cost(message: MatchPageGet) -> int:
    return 1 + message.limit // (2 * ROWS_A_MESSAGE)


HISTORY_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    MatchHistory: StoreRoute("match_history", _history, answers.history, cost=_history_cost),
    MatchPageGet: StoreRoute("match_page", _page, answers.page, cost=_page_cost),
}

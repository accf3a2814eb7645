"""Questions of operators about matches that are over: those of clients, in a query string; operators see all."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from game.history import answers
from game.history.asking import SEES_ALL, history_params, page_params
from game.history.live import property_of, split
from game.history.messages import MatchHistory, MatchPageGet
from server.actors.app import AdminContext, ConsoleRoute
from server.errors import BadInput
from server.ids import actor_id, key_of

M = TypeVar("M", MatchHistory, MatchPageGet)


async def history(context: AdminContext, params: Mapping[str, str]) -> Any:
    """Matches that are over, newest first: at most `limit` (20), by `player`, `opponent`, `mode`, `map_name`,
    `property` (`name=value`, several with commas between), `tag` (the same), `result`, `from_ms`, `to_ms`, `imported`;
    `next` is the `cursor` of the next page."""
    message = _history(params)
    rows = await context.query("match_history", history_params(SEES_ALL, message))
    return named(answers.history(message, rows))


async def page(context: AdminContext, params: Mapping[str, str]) -> Any:
    """A stored match whole: options, times, scores, players with medals and ratings, the end of its log. Players from
    the first `skip` on, at most `limit` (200)."""
    asked = {**params, "match": key_of(actor_id("match", params["match"]))}
    message = _converted(asked, MatchPageGet)
    return named(answers.page(message, await context.query("match_page", page_params(SEES_ALL, message))))


def _history(params: Mapping[str, str]) -> MatchHistory:
    """The question in a query string. Raises `BadInput`."""
    asked: dict[str, Any] = {name: value for name, value in params.items() if name not in ("property", "tag")}
    if asked.get("player"):
        asked["player"] = key_of(actor_id("player", asked["player"]))
    properties = [property_of(text) for text in split(params.get("property", ""))]
    tags = split(params.get("tag", ""))
    return _converted({**asked, "properties": properties, "tags": tags}, MatchHistory)


def _converted(asked: Mapping[str, Any], cls: type[M]) -> M:
    """A message of its fields by name; numbers come as text. Raises `BadInput`."""
    fields = msgspec.structs.fields(cls)
    known = {field.name for field in fields}
    if unknown := sorted(set(asked) - known):
        raise BadInput(f"nothing here is called {unknown[0]!r}")
    values: list[Any] = [asked[field.name] if field.name in asked else _default(field) for field in fields]
    try:
        return msgspec.convert([cls.__struct_config__.tag, *values], cls, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(str(error)) from None


def _default(field: Any) -> Any:
    if field.name == "id":
        return 0
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def named(value: Any) -> Any:
    """Fields by name, where the wire has arrays; the number of the request is left out."""
    if isinstance(value, msgspec.Struct):
        return {name: named(inner) for name, inner in msgspec.structs.asdict(value).items() if name != "id"}
    return [named(inner) for inner in value] if isinstance(value, list) else value


HISTORY: Final[Mapping[str, ConsoleRoute]] = {
    "match-history": history,
    "players/{player}/history": history,
    "matches/{match}/page": page,
}

"""The game as the engine sees it: which message goes to which actor, read models and pages."""

from collections.abc import Mapping
from typing import Any, Final

from game import messages as m
from game import replay
from game.boards.actor import Boards
from game.boards.messages import ANSWERS as BOARD_ANSWERS
from game.boards.messages import REQUESTS as BOARD_REQUESTS
from game.boards.routes import BOARD_ROUTES
from game.careers import messages as career
from game.columns import QUESTIONS, RECORDED
from game.console import CONSOLE, PAGES, READ_MODELS
from game.console.read_models import after, cursor_of, place_cursor
from game.friends import messages as f
from game.friends import rules as friends_rules
from game.friends.actor import Friends
from game.friends.stored import relations_of
from game.history import live
from game.history import messages as h
from game.history.admin import HISTORY
from game.history.routes import HISTORY_ROUTES
from game.match import codes as match_codes
from game.match import messages as mm
from game.match.actor import Match
from game.match.admin import MATCH_ACTIONS
from game.moderation import messages as mod
from game.moderation import rules as moderation_rules
from game.moderation.actor import Standing
from game.moderation.admin import ACTIONS
from game.moderation.admin import CONSOLE as MODERATION
from game.modes.loading import take_files
from game.party import rules as party_rules
from game.party.actor import Party
from game.party.messages import PARTY_ANSWERS, PARTY_REQUESTS
from game.party.routes import PARTY_ROUTES
from game.people.admin import ACTIONS as ERASURE
from game.people.codes import CODES as PEOPLE_CODES
from game.player import messages as player
from game.player import pictures
from game.player import rules as player_rules
from game.player.actor import Player
from server.actors import app as engine
from server.actors.actor import Caller, Role
from server.actors.app import AnyRoute, QueryRoute, Route
from server.actors.presence import PresenceKind
from server.wire.messages import Request

HOSTS: Final[frozenset[Role]] = frozenset({"host", "service"})
PLAYERS: Final[frozenset[Role]] = frozenset({"player"})
SERVICES: Final[frozenset[Role]] = frozenset({"service"})
PAGES_OF: Final = (10, 25, 50, 100, 250, 500)
"""Sizes of the pages that are asked of the nodes, so that clients who want nearly the same share an answer."""
ROWS_A_MESSAGE: Final = 10
"""Rows of a list that weigh as much in the sender's rate as a message."""
LISTS_SHARED_S: Final = 0.2


def _self(caller: Caller, _message: Any) -> str:
    return caller.subject


def _player(_caller: Caller, message: Any) -> str:
    return str(message.player)


def _match(_caller: Caller, message: Any) -> str:
    return str(message.match)


def _subject(_caller: Caller, message: Any) -> str:
    return str(message.subject)


def _page(caller: Caller, message: m.MatchList) -> dict[str, Any]:
    after(message.cursor)  # a bad one is refused here, and not by every node
    limit = next(size for size in PAGES_OF if size >= message.limit)
    page: dict[str, Any] = {"limit": limit, "cursor": message.cursor, "outside": 1}
    filters = live.asked(message)._asdict()
    page |= {name: value for name, value in filters.items() if value}
    return page if caller.role == "service" else {**page, "public": 1}


def _list_cost(message: m.MatchList) -> int:
    return 1 + message.limit // ROWS_A_MESSAGE


def _merged(rows: list[Any]) -> list[Any]:
    """Newest first; of two rows for one match (it is moving) the one with the later clock. A node that did not look at
    all of its matches says how far: what stands behind that comes on a later page, and the place, as a list, last."""
    by_match: dict[str, m.MatchRow] = {}
    for row in sorted((row for row in rows if "until" not in row), key=lambda row: int(row["time_ms"])):
        fields = {name: row[name] for name in m.MatchRow.__struct_fields__ if name in row}
        by_match[row["match"]] = m.MatchRow(**fields)
    found = sorted(by_match.values(), key=_order)
    until = min((list(row["until"]) for row in rows if "until" in row), default=None)
    return found if until is None else [*(row for row in found if _order(row) <= until), until]


def _order(row: m.MatchRow) -> list[Any]:
    return [-row.created_wall_ms, row.match]


def _matches(message: m.MatchList, rows: list[Any], missing: list[str]) -> m.Matches:
    until = rows[-1] if rows and isinstance(rows[-1], list) else None
    newest = (rows if until is None else rows[:-1])[: message.limit]
    if len(newest) == message.limit:
        return m.Matches(message.id, newest, missing, cursor_of(newest[-1]))
    return m.Matches(message.id, newest, missing, None if until is None else place_cursor(until))


ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    player.PresenceSet: Route(Player, Player.presence_set, _self, PLAYERS),
    player.PresenceGet: Route(Player, Player.presence_get, _player),
    player.ProfileSet: Route(Player, Player.profile_set, _self, PLAYERS),
    player.ProfileGet: Route(Player, Player.profile_get, _player),
    career.CareerGet: Route(Player, Player.career_get, _player),
    m.MatchCreate: Route(Match, Match.create, _match, HOSTS),
    m.MatchJoin: Route(Match, Match.join, _match, PLAYERS),
    m.MatchLeave: Route(Match, Match.leave, _match, PLAYERS),
    m.MatchStart: Route(Match, Match.start, _match, HOSTS),
    m.MatchReport: Route(Match, Match.report, _match, HOSTS),
    m.MatchTick: Route(Match, Match.tick, _match, HOSTS),
    m.MatchEnd: Route(Match, Match.end, _match, HOSTS),
    mm.MatchInvite: Route(Match, Match.invite, _match),
    mm.MatchAllow: Route(Match, Match.allow, _match, HOSTS),
    mm.MatchDescribe: Route(Match, Match.describe, _match, HOSTS),
    mm.MatchReserve: Route(Match, Match.reserve, _match, HOSTS),
    mm.MatchKick: Route(Match, Match.kick, _match, HOSTS),
    mm.MatchUnkick: Route(Match, Match.unkick, _match, HOSTS),
    mm.MatchSuccessor: Route(Match, Match.successor, _match, HOSTS),
    mm.MatchPassHost: Route(Match, Match.pass_host, _match, HOSTS),
    m.MatchGet: Route(Match, Match.get, _match),
    mod.ModerationBan: Route(Standing, Standing.ban, _subject, SERVICES),
    mod.ModerationUnban: Route(Standing, Standing.unban, _subject, SERVICES),
    mod.ModerationMute: Route(Standing, Standing.mute, _subject, SERVICES),
    mod.ModerationUnmute: Route(Standing, Standing.unmute, _subject, SERVICES),
    mod.ModerationKick: Route(Standing, Standing.kick, _subject, SERVICES),
    mod.ModerationRevoke: Route(Standing, Standing.revoke, _subject, SERVICES),
    mod.ModerationGet: Route(Standing, Standing.get, _subject, SERVICES),
    f.FriendsInvite: Route(Friends, Friends.invite, _self, PLAYERS),
    f.FriendsAccept: Route(Friends, Friends.accept, _self, PLAYERS),
    f.FriendsDecline: Route(Friends, Friends.decline, _self, PLAYERS),
    f.FriendsRemove: Route(Friends, Friends.remove, _self, PLAYERS),
    f.FriendsBlock: Route(Friends, Friends.block, _self, PLAYERS),
    f.FriendsUnblock: Route(Friends, Friends.unblock, _self, PLAYERS),
    f.FriendsList: Route(Friends, Friends.list_friends, _self, PLAYERS),
    f.FriendsRecent: Route(Friends, Friends.recent, _self, PLAYERS),
    m.MatchList: QueryRoute("live_matches", _page, _matches, merge=_merged, cost=_list_cost),
    **PARTY_ROUTES,
    **BOARD_ROUTES,
    **HISTORY_ROUTES,
}

App = engine.App(
    name="game",
    actors=(Player, Match, Standing, Friends, Party, Boards),
    requests=(
        *player.REQUESTS,
        *m.REQUESTS,
        *career.CAREER_REQUESTS,
        *mm.REQUESTS,
        *mod.REQUESTS,
        *f.REQUESTS,
        *PARTY_REQUESTS,
        *BOARD_REQUESTS,
        *h.REQUESTS,
    ),
    answers=(
        *player.ANSWERS,
        *m.ANSWERS,
        *career.CAREER_ANSWERS,
        *mm.ANSWERS,
        *mod.ANSWERS,
        *f.ANSWERS,
        *PARTY_ANSWERS,
        *BOARD_ANSWERS,
        *h.ANSWERS,
    ),
    events=m.EVENTS,
    routes=ROUTES,
    session_actor=Player,
    standing=engine.StandingCheck(Standing, Standing.judge),
    read_models=READ_MODELS,
    shared_s=dict.fromkeys(("live_matches", "match_board"), LISTS_SHARED_S),
    pages=PAGES,
    console={**CONSOLE, **HISTORY, **MODERATION},
    actions={**ACTIONS, **MATCH_ACTIONS, **ERASURE},
    # Its tables are older than migrations of applications: they stand in the engine's history.
    mappings="persistence.game.mappings:MAPPINGS",
    store_queries="persistence.game.queries:QUERIES",
    shapes=player.SHAPES,
    codes={
        **match_codes.CODES,
        **player_rules.CODES,
        **moderation_rules.CODES,
        **pictures.CODES,
        **friends_rules.CODES,
        **party_rules.CODES,
        **PEOPLE_CODES,
    },
    presence=PresenceKind(
        pictures.gone,
        pictures.UNKNOWN,
        pictures.HIDDEN,
        query="last_seen",
        relations=Friends,
        stored_relations=("stored_relations", relations_of),
    ),
    take_files=take_files,
    recorded=RECORDED,
    replays={"match": replay.SHOWN},
    questions=QUESTIONS,
    exports={"person": engine.ExportCommand(("person", "export"), "nothing is kept about")},
    commands={
        "play": "game.commands.play:register",
        "matches": "game.commands.matches:register",
        "replay": "game.commands.replay:register",
        "theatre": "game.commands.theatre:register",
        "export": "game.commands.export:register",
        "import": "game.commands.import_:register",
        "person": "game.commands.person:register",
        "stats": "game.commands.stats:register",
        "prune": "game.commands.prune:register",
        "pin": "game.commands.prune:register_pin",
        "unpin": "game.commands.prune:register_unpin",
        **{name: f"game.commands.moderation:register_{name}" for name in (*ACTIONS, "standing", "moderation")},
    },
)

"""The game as the engine sees it: the messages, routes, read models, pages and commands that its rooms bring."""

from collections.abc import Mapping
from typing import Final

from game import messages as play
from game import replay
from game.boards import messages as boards
from game.boards.actor import Boards
from game.boards.routes import BOARD_ROUTES
from game.careers import messages as careers
from game.columns import QUESTIONS, RECORDED
from game.console import CONSOLE, PAGES, READ_MODELS
from game.friends import messages as friends
from game.friends import rules as friends_rules
from game.friends.actor import Friends
from game.friends.routes import FRIEND_ROUTES
from game.friends.stored import relations_of
from game.history import messages as history
from game.history.admin import HISTORY
from game.history.routes import HISTORY_ROUTES
from game.match import codes as match_codes
from game.match import messages as matches
from game.match.actor import Match
from game.match.admin import MATCH_ACTIONS
from game.match.routes import MATCH_ROUTES
from game.moderation import messages as moderation
from game.moderation import rules as moderation_rules
from game.moderation.actor import Standing
from game.moderation.admin import ACTIONS
from game.moderation.admin import CONSOLE as MODERATION
from game.moderation.routes import MODERATION_ROUTES
from game.modes.loading import take_files
from game.party import messages as parties
from game.party import rules as party_rules
from game.party.actor import Party
from game.party.routes import PARTY_ROUTES
from game.people.admin import ACTIONS as ERASURE
from game.people.codes import CODES as PEOPLE_CODES
from game.player import messages as players
from game.player import pictures
from game.player import rules as player_rules
from game.player.actor import Player
from game.player.routes import PLAYER_ROUTES
from server.actors import app as engine
from server.actors.app import AnyRoute
from server.actors.presence import PresenceKind
from server.wire.messages import Request

LISTS_SHARED_S: Final = 0.2

ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    **PLAYER_ROUTES,
    **MATCH_ROUTES,
    **MODERATION_ROUTES,
    **FRIEND_ROUTES,
    **PARTY_ROUTES,
    **BOARD_ROUTES,
    **HISTORY_ROUTES,
}

App = engine.App(
    name="game",
    actors=(Player, Match, Standing, Friends, Party, Boards),
    requests=(
        *players.REQUESTS,
        *play.REQUESTS,
        *careers.REQUESTS,
        *matches.REQUESTS,
        *moderation.REQUESTS,
        *friends.REQUESTS,
        *parties.REQUESTS,
        *boards.REQUESTS,
        *history.REQUESTS,
    ),
    answers=(
        *players.ANSWERS,
        *play.ANSWERS,
        *careers.ANSWERS,
        *matches.ANSWERS,
        *moderation.ANSWERS,
        *friends.ANSWERS,
        *parties.ANSWERS,
        *boards.ANSWERS,
        *history.ANSWERS,
    ),
    events=play.EVENTS,
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
    shapes=players.SHAPES,
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

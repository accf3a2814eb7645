"""The actors that answer the messages of moderation."""

from collections.abc import Mapping
from typing import Any, Final

from game.moderation import messages as m
from game.moderation.actor import Standing
from game.routing import SERVICES
from server.actors.actor import Caller
from server.actors.app import AnyRoute, Route
from server.wire.messages import Request


def _subject(_caller: Caller, message: Any) -> str:
    return str(message.subject)


MODERATION_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.ModerationBan: Route(Standing, Standing.ban, _subject, SERVICES),
    m.ModerationUnban: Route(Standing, Standing.unban, _subject, SERVICES),
    m.ModerationMute: Route(Standing, Standing.mute, _subject, SERVICES),
    m.ModerationUnmute: Route(Standing, Standing.unmute, _subject, SERVICES),
    m.ModerationKick: Route(Standing, Standing.kick, _subject, SERVICES),
    m.ModerationRevoke: Route(Standing, Standing.revoke, _subject, SERVICES),
    m.ModerationGet: Route(Standing, Standing.get, _subject, SERVICES),
}

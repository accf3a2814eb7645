"""The actors that answer the messages of friends and blocks."""

from collections.abc import Mapping
from typing import Final

from game.friends import messages as m
from game.friends.actor import Friends
from game.routing import PLAYERS, of_caller
from server.actors.app import AnyRoute, Route
from server.wire.messages import Request

FRIEND_ROUTES: Final[Mapping[type[Request], AnyRoute]] = {
    m.FriendsInvite: Route(Friends, Friends.invite, of_caller, PLAYERS),
    m.FriendsAccept: Route(Friends, Friends.accept, of_caller, PLAYERS),
    m.FriendsDecline: Route(Friends, Friends.decline, of_caller, PLAYERS),
    m.FriendsRemove: Route(Friends, Friends.remove, of_caller, PLAYERS),
    m.FriendsBlock: Route(Friends, Friends.block, of_caller, PLAYERS),
    m.FriendsUnblock: Route(Friends, Friends.unblock, of_caller, PLAYERS),
    m.FriendsList: Route(Friends, Friends.list_friends, of_caller, PLAYERS),
    m.FriendsRecent: Route(Friends, Friends.recent, of_caller, PLAYERS),
}

"""What actors keep of somebody who is erased: nothing. The rules alone."""

from typing import Any

from game.friends import rules as friends
from game.friends.rules import At
from game.friends.state import Dropped, FriendsState, Link, Word
from game.moderation import rules as moderation
from game.moderation.state import Act, StandingState
from game.party import rules as party
from game.party.place import InParty
from game.party.state import Invite, Member, PartyState
from game.party.state import Word as PartyWord
from game.places import Membership, Places
from game.player.erasing import erasing, has_left
from game.player.state import PlayerState
from game.saved_commands import SavedCommands
from server.actors.facts import Register, Stamp
from server.catalog.catalog import NotRevived
from server.errors import Rejected

LINK = Link(Register(Stamp(1, 1), Word(blocks=True)), friends.NO_WORD, "blocked", 5, 1)
NONE: Any = None


def at(version: int, stored: int) -> At:
    return At(Stamp(1, version), 9, lambda asked: asked <= stored)


def test_friend_forgets_and_tells_nobody() -> None:
    before = FriendsState(links={"ann": LINK, "bob": LINK}, untold=("ann", "bob"), relations=3, told=3)
    after = friends.forget(before, "ann", at(7, 6))
    assert (set(after.links), after.untold, after.dropped) == ({"bob"}, ("bob",), (Dropped("ann", 7),))
    assert after.relations > before.relations, "the player hears that its lists are others"
    assert friends.forget(after, "ann", at(8, 6)) is after, "the note stays while the row may be there"
    assert friends.forget(after, "ann", at(8, 7)).dropped == (), "and goes then"
    assert friends.forget(before, "eve", at(7, 6)) is before


def test_party_forgets_members_invitations_and_commands() -> None:
    before = PartyState(
        leader="ann",
        created_wall_ms=1,
        members={"ann": Member(1, 1), "bob": Member(2, 2)},
        invited={"ann": Invite(3, "bob", 9), "cat": Invite(4, "ann", 9), "dan": Invite(5, "bob", 9)},
        untold={"ann": PartyWord(1, True), "bob": PartyWord(2, True)},
        answered={"ann/party.join/x": SavedCommands(), "bob/party.join/x": SavedCommands()},
    )
    after = party.forget(before, "ann", 5)
    assert (after.leader, set(after.members), set(after.invited), set(after.untold), set(after.answered)) == (
        "bob",
        {"bob"},
        {"dan"},
        {"bob"},
        {"bob/party.join/x"},
    )
    assert party.forget(after, "ann", 5) is after


def test_standing_has_another_name_in_its_reasons() -> None:
    act = Act(1, 5, "ban", "ann", "service", "rude to ann", 9)
    before = StandingState(9, "rude to ann", number=Stamp(1, 1), acts=(act,))
    after = moderation.forget(before, "ann", "X")
    assert (after.ban_reason, after.acts[0].principal, after.acts[0].reason) == ("rude to X", "X", "rude to X")
    assert moderation.forget(after, "ann", "X") is after
    gone = moderation.erased(before)
    assert (gone.banned_until_ms, gone.acts, gone.told) == (0, (), before.number)


def test_player_leaves_its_match_and_its_party_before_it_goes() -> None:
    before = PlayerState(match="m", birth=1, member=2, in_party=InParty(Places(Membership("p", 3, 4))), status="online")
    leaving = erasing(before)
    assert (leaving.match, leaving.status, leaving.erased) == ("", "offline", True)
    assert [(place.name, place.number) for place in leaving.leaving] == [("m", 2)]
    assert [(place.name, place.number) for place in leaving.in_party.places.leaving] == [("p", 4)]
    assert not has_left(leaving) and not has_left(before)
    assert has_left(erasing(PlayerState()))
    assert erasing(leaving) == leaving


def test_refusal_of_an_erased_actor_is_one_that_ends_a_fact() -> None:
    assert issubclass(NotRevived, Rejected)

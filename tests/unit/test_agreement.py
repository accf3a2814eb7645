"""Agreement of members (F62): what both sides say of a difference, and when a newcomer does not come up. Pure."""

import hashlib

from server.cluster.agreement import disagreement, keys_text, newcomer_refused
from server.cluster.terms import Terms, from_meta, to_meta
from server.cluster.view import Member, MemberState
from server.ids import Incarnation, NodeId

CLUSTER_KEY = b"c" * 32
OLD, NEW, OTHER = (b"HS256 " + bytes([number]) * 32 for number in (1, 2, 3))


def member(name: str, *keys: bytes, state: MemberState = "up", **terms: str) -> Member:
    told = Terms(database="d.1", app="game", tokens=keys_text(CLUSTER_KEY, keys) if keys else "", **terms)
    return Member(NodeId(name), Incarnation(1), 4, state, "", "", "", terms=told)


def test_a_newcomer_without_any_key_in_common_does_not_come_up_and_says_with_whom() -> None:
    n1, n2, late = member("n1", OLD), member("n2", OLD), member("late", OTHER, state="joining")
    told = newcomer_refused(late, (late, n1, n2))
    assert told.startswith(f"not of one cluster: n1, n2 on token keys {n1.terms.tokens} (here late on ")
    assert "this node does not serve" in told and "security.signing_key" in told and "\\n" not in told
    assert "late on token keys" in disagreement(n1, (late, n1, n2))


def test_keys_that_change_node_by_node_stop_nobody() -> None:
    """Neighbours in a rotation have a key in common, also a newcomer with only some of the members."""
    for mine, theirs in (((OLD, NEW), (OLD,)), ((NEW,), (OLD, NEW))):
        for here, there in ((mine, theirs), (theirs, mine)):
            late, n1 = member("late", *here, state="joining"), member("n1", *there)
            assert newcomer_refused(late, (late, n1, member("n2", OTHER))) == ""
            assert "token keys" in disagreement(n1, (late, n1))


def test_newcomer_that_is_first_or_beside_nodes_that_tell_no_keys_comes_up() -> None:
    late = member("late", OTHER, state="joining")
    assert newcomer_refused(late, (late,)) == ""
    assert newcomer_refused(late, (late, member("n1", OLD, state="joining"))) == ""
    assert newcomer_refused(late, (late, member("older"))) == disagreement(late, (late, member("older"))) == ""


def test_other_kinds_and_rules_are_told_by_both_sides_as_in_a_rolling_upgrade() -> None:
    n1, n2 = member("n1", OLD, kinds="one", rules="r"), member("n2", OLD, kinds="one", rules="r")
    new = member("new", OLD, kinds="two", rules="s", state="joining")
    assert newcomer_refused(new, (n1, n2, new)) == disagreement(n1, (n1, n2)) == ""
    assert "new on kinds and states two (here n1 on one): run one version" in disagreement(n1, (n1, n2, new))
    assert "n1, n2 on kinds and states one (here new on two)" in disagreement(new, (n1, n2, new))
    assert "new on token rules s (here n1 on r): set one gateway.token_audience" in disagreement(n1, (n1, n2, new))


def test_another_login_policy_is_told_by_both_sides_and_stops_nobody() -> None:
    n1, late = member("n1", OLD, logins="newest_wins"), member("late", OLD, logins="allow:2", state="joining")
    assert newcomer_refused(late, (n1, late)) == disagreement(n1, (n1, member("older", OLD))) == ""
    assert "late on login policy allow:2 (here n1 on newest_wins): set one gateway" in disagreement(n1, (n1, late))
    assert "n1 on login policy newest_wins (here late on allow:2)" in disagreement(late, (n1, late))


def test_each_login_policy_can_be_told_in_gossip() -> None:
    for policy in ("newest_wins", "first_wins", "allow:16", "one_per_kind"):
        assert from_meta(to_meta(Terms(logins=policy))) == Terms(logins=policy)


def test_fingerprints_tell_nothing_of_a_key_without_the_cluster_key() -> None:
    told = keys_text(CLUSTER_KEY, [OLD])
    assert told == keys_text(CLUSTER_KEY, [OLD, OLD]) and len(told) == 8
    assert len({told, keys_text(b"d" * 32, [OLD]), keys_text(CLUSTER_KEY, [NEW])}) == 3
    plain = {hashlib.new(name, OLD).hexdigest()[:8] for name in ("sha256", "sha1", "md5", "sha512")}
    assert told not in plain


def test_keys_beyond_the_room_of_gossip_are_not_told() -> None:
    keys = [b"%d" % number for number in range(8)]
    assert len(keys_text(CLUSTER_KEY, keys[:7])) == 62
    assert keys_text(CLUSTER_KEY, keys) == ""

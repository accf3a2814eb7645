"""The pure parts under sessions: tokens, bucket, wheel, cursors, shared pushes."""

import base64
import json

import jwt
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadInput, BadToken, TokenExpired, Unavailable
from server.sessions.broadcast import Broadcast
from server.sessions.cursors import Cursors
from server.sessions.rate_bucket import GRANT, TokenBucket
from server.sessions.tokens import check, issue, own_rules
from server.sessions.wheel import Wheel
from server.wire.messages import Events, Going

KEY = b"k" * 32
RULES = own_rules(KEY)
NOW_MS = 1_700_000_000_000


def test_a_token_says_who_and_what() -> None:
    claims = check(issue(KEY, "spartan-117", "host", 60, NOW_MS), RULES, NOW_MS)
    assert (claims.subject, claims.role) == ("spartan-117", "host")
    assert claims.expires_s - claims.issued_s == 60


def test_a_token_expires_with_the_clock_that_is_passed_in() -> None:
    token = issue(KEY, "p", "player", 60, NOW_MS)
    assert check(token, RULES, NOW_MS + 64_000).subject == "p"
    with pytest.raises(TokenExpired):
        check(token, RULES, NOW_MS + 65_001)


def test_a_token_from_a_fast_clock_is_good_within_the_skew() -> None:
    token = issue(KEY, "p", "player", 60, NOW_MS + 4_000)
    assert check(token, RULES, NOW_MS).subject == "p"
    with pytest.raises(Unavailable, match="clocks"):
        check(token, RULES, NOW_MS - 2_000)


def test_a_token_that_is_not_good_yet_is_to_be_tried_again() -> None:
    """F22, F55: 4001 is for what no retry mends."""
    now_s = NOW_MS // 1000
    for early in ({"iat": now_s + 6}, {"nbf": now_s + 6}, {"iat": now_s - 60, "nbf": now_s + 6.0}):
        token = _signed({**GOOD, **early})
        with pytest.raises(Unavailable) as caught:
            check(token, RULES, NOW_MS)
        assert caught.value.retry_after_s == 1.0
        assert check(token, RULES, NOW_MS + 1_000).subject == "p"
    with pytest.raises(Unavailable) as caught:
        check(_signed({**GOOD, "nbf": now_s + 86_400}), RULES, NOW_MS)
    assert caught.value.retry_after_s == 60
    assert check(_signed({**GOOD, "nbf": now_s}), RULES, NOW_MS).subject == "p"
    for bad in ("soon", None, True, -1):
        with pytest.raises(BadToken, match="nbf"):
            check(_signed({**GOOD, "nbf": bad}), RULES, NOW_MS)


@pytest.mark.parametrize(
    ("aud", "audience", "good"),
    [
        (None, None, True),
        ("garrison", None, True),
        ("elsewhere", None, False),
        (["elsewhere", "garrison"], None, True),
        ([], None, False),
        ("halo", "halo", True),
        (["x", "halo"], "halo", True),
        ("garrison", "halo", False),
        (None, "halo", False),
        ("", "halo", False),
        ({"halo": 1}, "halo", False),
    ],
)
def test_a_token_for_somebody_else_is_refused(aud: object, audience: str | None, good: bool) -> None:
    """F55."""
    token = _signed(GOOD if aud is None else {**GOOD, "aud": aud})
    if good:
        assert check(token, msgspec.structs.replace(RULES, audience=audience), NOW_MS).subject == "p"
    else:
        with pytest.raises(BadToken, match="aud"):
            check(token, msgspec.structs.replace(RULES, audience=audience), NOW_MS)


def test_a_token_is_issued_for_its_audience() -> None:
    assert (
        check(
            issue(KEY, "p", "player", 60, NOW_MS, "halo"), msgspec.structs.replace(RULES, audience="halo"), NOW_MS
        ).subject
        == "p"
    )


def _signed(claims: dict[str, object], key: bytes = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


GOOD = {"sub": "p", "role": "player", "iat": NOW_MS // 1000, "exp": NOW_MS // 1000 + 60, "iss": "garrison"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        _signed(GOOD, key=b"another key of thirty-two bytes!"),
        _signed(GOOD, key=b"k" * 64, algorithm="HS512"),
        _signed({**GOOD, "iss": "elsewhere"}),
        _signed({**GOOD, "role": "node"}),
        _signed({**GOOD, "role": ["player"]}),
        _signed({**GOOD, "sub": "no spaces"}),
        _signed({**GOOD, "sub": ""}),
        _signed({**GOOD, "exp": "soon"}),
        _signed({**GOOD, "exp": True}),
        _signed({**GOOD, "exp": -1}),
        *[_signed({name: value for name, value in GOOD.items() if name != left}) for left in GOOD],
    ],
)
def test_a_bad_token_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        check(token, RULES, NOW_MS)


def test_an_unsigned_token_is_refused() -> None:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    with pytest.raises(BadToken):
        check(f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(GOOD)}.", RULES, NOW_MS)


@pytest.mark.parametrize(
    ("key", "subject", "role", "ttl_s"),
    [(b"short", "p", "player", 60), (KEY, "a b", "player", 60), (KEY, "p", "node", 60), (KEY, "p", "player", 0)],
)
def test_no_token_is_issued_that_would_be_refused(key: bytes, subject: str, role: str, ttl_s: float) -> None:
    with pytest.raises(BadInput):
        issue(key, subject, role, ttl_s, NOW_MS)


@given(st.lists(st.floats(0, 3), max_size=200))
def test_a_bucket_gives_no_more_than_burst_and_rate(pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(10, 20, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= 20 + GRANT + 10 * now + 1e-6


def test_a_bucket_refills() -> None:
    bucket = TokenBucket(2, 2, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(0.6)
    assert not bucket.take(0.6)


def test_a_bucket_puts_off_each_message_behind_those_before_it() -> None:
    bucket = TokenBucket(10, 2, 0.0)
    assert [bucket.put_off(5.0) for _ in range(2)] == pytest.approx([0.1, 0.2])
    assert not bucket.overrun(5.0)
    assert bucket.put_off(5.0) == pytest.approx(0.3)
    assert bucket.overrun(5.05) and not bucket.overrun(5.15)
    assert bucket.put_off(9.0) == pytest.approx(0.1)


def test_a_bucket_knows_who_is_in_a_hurry() -> None:
    bucket = TokenBucket(100, 400, 0.0)
    assert all(bucket.take(number / 50) for number in range(200)) and not bucket.hurried
    assert all(bucket.take(4.0) for _ in range(2 * GRANT + 1)) and bucket.hurried
    assert all(bucket.take(5.0 + number / 50) for number in range(2 * GRANT)) and not bucket.hurried


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=50), st.lists(st.floats(0.01, 5), max_size=40))
def test_every_check_is_called_once_it_is_due_and_never_before(dues: list[float], steps: list[float]) -> None:
    wheel, now, called = Wheel(0.1, 0.0), 0.0, dict[int, float]()
    for number, due in enumerate(dues):
        wheel.add(due, lambda at, number=number: called.setdefault(number, at) and None)
    for step in [*steps, 100.0]:
        now += step
        wheel.turn(now)
        for number, due in enumerate(dues):
            assert (number in called) or due > now - 0.2
    assert all(called[number] >= due for number, due in enumerate(dues))
    assert len(wheel) == 0


def test_a_check_that_raises_does_not_cost_the_others() -> None:
    wheel, called = Wheel(0.1, 0.0), list[str]()

    def bad(_now: float) -> None:
        raise ValueError("planted")

    wheel.add(0.5, bad)
    wheel.add(0.5, lambda now: called.append("good"))
    with pytest.raises(ValueError, match="planted"):
        wheel.turn(1.0)
    wheel.turn(2.0)
    assert called == ["good"]


def test_a_check_comes_again_when_it_asks_to() -> None:
    wheel, at = Wheel(0.1, 0.0), list[float]()
    wheel.add(1.0, lambda now: at.append(now) or (now + 1.0 if now < 3 else None))  # type: ignore[func-returns-value]
    for tenth in range(1, 100):
        wheel.turn(tenth / 10)
    assert len(at) == 3


def always(_watcher: object) -> bool:
    return True


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20)), max_size=60),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_each_event_goes_out_once_and_in_order_whatever_runs_arrive(
    runs: list[tuple[int, int]], starts: list[int]
) -> None:
    """Runs overlap, repeat, leave gaps and come in any order; reading on from `wanted` ends it."""
    cursors: Cursors[int] = Cursors()
    got: dict[int, list[int]] = {watcher: [] for watcher in range(len(starts))}
    for watcher, start in enumerate(starts):
        cursors.watch(watcher, start)

    def arrive(first: int, count: int) -> None:
        for watcher, offset in cursors.take(first, count, always):
            got[watcher] += range(first + offset, first + count)

    for first, count in runs:
        arrive(first, count)
    while (wanted := cursors.wanted(always)) is not None:
        arrive(wanted, min(7, cursors.end - wanted))
    for watcher, start in enumerate(starts):
        assert got[watcher] == list(range(start, max(start, cursors.end)))


def test_a_session_that_finds_no_room_stays_where_it_is() -> None:
    cursors: Cursors[str] = Cursors()
    cursors.watch("slow", 1)
    cursors.watch("quick", 1)
    assert cursors.take(1, 5, lambda watcher: watcher == "quick") == [("quick", 0)]
    assert cursors.wanted(lambda watcher: watcher == "quick") is None
    assert cursors.wanted(always) == 1
    assert cursors.take(1, 5, always) == [("slow", 0)]


@pytest.mark.parametrize("seq", [1, 127, 128, 70_000, 2**40])
def test_a_shared_push_has_each_receivers_number(seq: int) -> None:
    broadcast = Broadcast(Going(0, "ws://a", 5))
    assert msgspec.msgpack.decode(broadcast.render("msgpack", seq)) == ["going", seq, "ws://a", 5]
    assert msgspec.json.decode(broadcast.render("json", seq)) == ["going", seq, "ws://a", 5]


def test_events_are_transcoded_for_people() -> None:
    event = msgspec.Raw(msgspec.msgpack.encode(["kill", 12, "é", None]))
    broadcast = Broadcast(Events(0, "match/m", 3, [event, event], "4a8e"))
    events = ["kill", 12, "é", None]
    assert msgspec.json.decode(broadcast.render("json", 9)) == ["events", 9, "match/m", 3, [events, events], "4a8e"]
    assert msgspec.msgpack.decode(broadcast.render("msgpack", 9)) == [
        "events",
        9,
        "match/m",
        3,
        [events, events],
        "4a8e",
    ]

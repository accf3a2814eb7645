"""Keys of `garrison replay`: what a terminal sends, what each key does, and the terminal afterwards."""

import contextlib
import os
import pty
import re
import select
import signal
import sys
import termios
import time

import pytest
from rich.console import Console

from game.commands import replay
from game.commands.replay_keys import keys_in
from game.commands.replay_screen import ReplayScreen, timeline
from game.messages import Kill, Medal
from tests.support.matches import Played

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def played() -> Played:
    match = Played().live(players=4, teams=2, map_name="Recharge", score_limit=100)
    for second in range(60):
        match.report(Kill(second * 1_000, f"p{second % 2 * 2}", f"p{1 + second % 2 * 2}"))
    match.report(Medal(59_500, "p0", "Snipe"))
    return match.end(61_000)


def screen(from_ms: int = 0, speed: float = 1.0) -> ReplayScreen:
    return ReplayScreen("ranked-42", played().stored(7), from_ms, speed, 100.0)


def text(shown: ReplayScreen, now: float, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(shown.drawn(now, width))
    return console.export_text()


@pytest.mark.parametrize(
    ("sent", "keys", "rest"),
    [
        ("q ", ["q", " "], ""),
        ("\x1b[D\x1b[C\x1bOA\x1b[B", ["left", "right", "up", "down"], ""),
        ("\x1b[H\x1b[4~f", ["home", "end", "f"], ""),
        ("a\x1b[", ["a"], "\x1b["),
        ("\x1b[1;5Cq", ["q"], ""),  # control and right: no key of ours
        ("\x1bq", ["q"], ""),
    ],
)
def test_keys_are_told_from_what_a_terminal_sends(sent: str, keys: list[str], rest: str) -> None:
    assert keys_in(sent) == (keys, rest)


def test_clock_goes_on_pauses_and_changes_its_speed() -> None:
    shown = screen()
    assert shown.advance(105.5) == pytest.approx(0.5)
    assert sum(line.kills for line in shown.state.players.values()) == 6
    shown.press(" ", 105.5)
    assert shown.advance(200.0) is None and shown.clock.at(200.0) == pytest.approx(5_500)
    assert "paused" in text(shown, 200.0)
    shown.press(" ", 200.0)
    for key, speed in (("up", 200), ("+", 400), ("down", 200), ("-", 100), ("-", 50), ("-", 25), ("-", 25)):
        shown.press(key, 200.0)
        assert shown.clock.speed == speed
    for _ in range(12):
        shown.press("up", 200.0)
    assert shown.clock.speed == 6_400


def test_arrows_seek_ten_seconds_both_ways_and_home_and_end_to_the_ends() -> None:
    shown = screen(30_000)
    for key, ms, kills in (("right", 40_000, 40), ("left", 30_000, 30), ("home", 0, 0), ("left", 0, 0)):
        shown.press(key, 100.0)
        assert (shown.clock.at(100.0), sum(line.kills for line in shown.state.players.values())) == (ms, kills)
    shown.press("end", 100.0)
    assert shown.advance(100.0) is None and shown.state.phase == "ended"
    assert "the match is over" in text(shown, 100.0) and "01:01 / 01:01" in text(shown, 100.0)
    shown.press("left", 100.0)
    assert shown.clock.plays and shown.clock.at(100.0) == 51_000
    shown.press("end", 100.0)
    shown.advance(100.0)
    shown.press(" ", 100.0)  # from the end: once more
    assert shown.clock.at(100.0) == 0 and shown.clock.plays


def test_players_are_followed_one_after_the_other_and_then_all_again() -> None:
    shown = screen(59_900)
    followed = []
    for _ in range(5):
        shown.press("f", 100.0)
        shown.advance(100.0)
        followed.append(shown.follow)
    assert followed == ["p0", "p1", "p2", "p3", ""]
    shown.press("f", 100.0)
    shown.advance(100.0)
    said = text(shown, 100.0)
    assert "follows p0" in said and "Snipe" in said and "p2 kills" not in said


def test_timeline_shows_the_place_and_where_kills_were() -> None:
    heights, bar = timeline([0, 1, 2, 90], 50, 100, 10)
    assert (heights.plain, bar.plain) == ("█        ▂", "━━━━━●────")
    assert timeline([], 0, 0, 4)[1].plain == "●───"
    assert bar.plain.index("●") == 5


def in_a_terminal(keys: str, until: str, end: bytes | int) -> tuple[int, str, bool]:
    """Watch the match in a pseudo-terminal, press `keys`, wait for a text, and end it by a key or a signal: the exit
    code, all that was drawn, and whether the terminal is as it was."""
    log = played().stored()
    terminal, inner = pty.openpty()
    before = termios.tcgetattr(terminal)  # before the child can have changed it
    child = os.fork()
    if child == 0:  # a copy of this process, in the terminal
        os.close(terminal)
        os.login_tty(inner)
        code = 1
        try:
            sys.stdin = os.fdopen(0)
            said = os.fdopen(1, "w")
            replay._watch_with_keys(Console(file=said, force_terminal=True, width=80), "ranked-42", log, 0, 1.0)
            code = 0
        except SystemExit as left:
            code = int(str(left.code))
        finally:
            os._exit(code)
    os.close(inner)
    said, pressed, ended = "", False, False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 60)[0]:
            break
        try:
            said += os.read(terminal, 65_536).decode("utf-8", "replace")
        except OSError:
            break
        if not pressed and "ranked-42" in said:
            os.write(terminal, keys.encode())
            pressed = True
        if pressed and not ended and until in ANSI.sub("", said):
            ended = True
            if isinstance(end, bytes):
                os.write(terminal, end)
            else:
                os.kill(child, end)
            _, status = os.waitpid(child, 0)
            after = termios.tcgetattr(terminal)
            code = os.waitstatus_to_exitcode(status)
            os.set_blocking(terminal, False)
            with contextlib.suppress(OSError):
                said += os.read(terminal, 65_536).decode("utf-8", "replace")
            os.close(terminal)
            return code, said, after == before
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(ANSI.sub("", said)[-2_000:])


@pytest.mark.parametrize(("end", "code"), [(b"q", 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_terminal_shows_what_keys_do_and_is_given_back(end: bytes | int, code: int) -> None:
    left, said, restored = in_a_terminal("\x1b[C\x1b[C\x1b[C f", "follows p0", end)
    assert left == code and restored
    assert "paused" in said and "00:30 / 01:01" in ANSI.sub("", said)
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is there again

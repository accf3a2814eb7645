"""`garrison query`: how far it looks back, and what it says of an answer's completeness."""

import socket
import threading
import time

import pytest

from server.cli.app import run
from server.cli.query import _since_ms, coverage_text
from server.errors import BadInput


@pytest.mark.parametrize(("since", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5_400), ("366d", 366 * 86_400)])
def test_since_is_so_long_ago(since: str, seconds: float) -> None:
    assert abs(time.time() - seconds - _since_ms(since) / 1000) < 60


@pytest.mark.parametrize("since", ["90", "m", "-1m", "0s", "infd", "nand", "367d", "10 minutes", "1w"])
def test_since_that_is_no_time_is_refused(since: str) -> None:
    with pytest.raises(BadInput, match="--since"):
        _since_ms(since)


def test_coverage_says_what_is_missing() -> None:
    whole = {
        "nodes": 3, "answered": 3, "rows_held": 2_000, "rows_scanned": 2_000, "stand_for": 2_000, "sampled": False,
        "groups_left_out": 0, "from_ms": 0, "to_ms": 0, "missing": [], "troubles": [],
        "reloading": 0, "rows_missing": 0, "age_ms": 0,
    }  # fmt: skip
    assert coverage_text(whole) == "3 of 3 nodes; 2,000 of 2,000 rows scanned"
    assert "1 load events again, 1,500 rows to come" in coverage_text(whole | {"reloading": 1, "rows_missing": 1_500})
    lacking = {"answered": 2, "missing": ["n3"], "sampled": True, "stand_for": 9_000, "groups_left_out": 5}
    told = coverage_text(whole | lacking)
    assert told.startswith("2 of 3 nodes") and "stand for 9,000" in told
    assert "no answer from n3" in told and "5 groups left out" in told


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "31"])
def test_timeout_that_is_none_is_refused(timeout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT 1", "--timeout", timeout, "--url", "http://127.0.0.1:1"]) == 2
    assert "--timeout takes seconds" in capsys.readouterr().err


def test_question_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "SELECT '\udcff'", "--url", "http://127.0.0.1:1"]) == 2
    assert "no UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("body", [b"hello", b"[]", b"7", b"{", b'{"ok":true}', b'{"a":"\xff"}'])
def test_server_that_is_no_node_is_told_in_a_line(body: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            asked, _ = listening.accept()
            with asked:
                asked.recv(9_999)
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert run(["status", "--url", url, "--token", "x" * 20]) == 2
        thread.join()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"garrison: {url} does not answer as a node does: is it another server?"

"""The admin server over real HTTP, one process, several nodes."""

import asyncio
import base64
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import structlog

from game.messages import Assist, Death, Ended, Kill, Left, Medal, Objective, Score
from server.actors.app import Action, AdminContext, App, ExportCommand
from server.admin.history import SAMPLES_KEPT, Sampler
from server.admin.security import KnownOrigins
from server.errors import BadSetting, Unavailable
from server.ids import SLOT_COUNT
from server.runtime.metrics import Metrics
from server.runtime.troubles import Trouble
from tests.support.admin import APP, TOKEN, PlayedMatch, TestCluster, TestNode

AUTH = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def cluster() -> AsyncIterator[TestCluster]:
    async with TestCluster(3) as nodes:
        yield nodes


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


async def ask(http: httpx.AsyncClient, node: TestNode, path: str, **params: Any) -> Any:
    answer = await http.get(f"{node.admin.url}/api/v1/{path}", params=params, headers=AUTH)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- health and metrics ----


async def test_health_needs_no_token(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-1"]
    alive = await http.get(f"{node.admin.url}/healthz")
    assert (alive.status_code, alive.json()) == (200, {"node": "node-1", "status": "alive"})
    assert (await http.get(f"{node.admin.url}/readyz")).status_code == 200
    node.reason = "leaving"
    draining = await http.get(f"{node.admin.url}/readyz")
    assert draining.status_code == 503
    assert draining.json() == {"node": "node-1", "status": "not ready", "reason": "leaving"}
    node.reason = ""
    node.troubles = [Trouble("database", "database unreachable: refused", 1_700_000_000_000)]
    troubled = await http.get(f"{node.admin.url}/readyz")  # it serves, and says what is wrong nevertheless
    assert troubled.status_code == 200
    assert troubled.json() == {"node": "node-1", "status": "ready", "reason": "database unreachable: refused"}


async def test_metrics_are_prometheus_text(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-2"]
    node.system.metrics.heartbeats_total = 7
    answer = await http.get(f"{node.admin.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].count("charset") == 1
    assert 'garrison_heartbeats_total{node="node-2"} 7.0' in answer.text


# ---- token ----


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
async def test_the_api_refuses_a_wrong_token(cluster: TestCluster, http: httpx.AsyncClient, header: str | None) -> None:
    headers = {"authorization": header} if header is not None else {}
    answer = await http.get(f"{cluster.nodes['node-1'].admin.url}/api/v1/live", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["code"] == "bad_token"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


async def test_without_a_configured_token_each_node_makes_its_own(http: httpx.AsyncClient) -> None:
    async with TestCluster(2, token=None) as cluster:
        first, second = (node.admin for node in cluster.nodes.values())
        assert first.token.generated and len(first.token.text) >= 32 and first.token.text != second.token.text
        given = {"authorization": f"Bearer {first.token.text}"}
        assert (await http.get(f"{first.url}/api/v1/live", headers=given)).status_code == 200
        assert (await http.get(f"{second.url}/api/v1/live", headers=given)).status_code == 401


# ---- cluster views ----


async def test_cluster_shows_every_node_with_its_report(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    metrics = cluster.nodes["node-2"].system.metrics
    metrics.sessions, metrics.activations, metrics.dirty, metrics.dirty_age_seconds = 5, 9, 2, 0.5
    answer = await ask(http, cluster.nodes["node-1"], "cluster")
    assert [node["node"] for node in answer["nodes"]] == ["node-1", "node-2", "node-3"]
    assert (answer["node"], answer["app"], answer["missing"], answer["gone"]) == ("node-1", "halo", [], [])
    assert sum(node["slots"] for node in answer["nodes"]) == SLOT_COUNT
    report = answer["nodes"][1]["report"]
    assert (report["sessions"], report["activations"], report["dirty"], report["dirty_age_s"]) == (5, 9, 2, 0.5)
    assert answer["nodes"][1]["admin_url"] == cluster.nodes["node-2"].admin.url


async def test_a_silent_node_is_named_in_every_gathered_answer(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    cluster.silent.add("node-3")
    for path in ("live", "cluster", "history", "store", "activations", "sessions", "matches", "query/node"):
        answer = await ask(http, cluster.nodes["node-1"], path)
        assert answer["missing"] == ["node-3"], path
    nodes = (await ask(http, cluster.nodes["node-1"], "cluster"))["nodes"]
    assert [node["report"] is None for node in nodes] == [False, False, True]


async def test_a_row_that_cannot_be_read_counts_as_missing(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    cluster.nodes["node-2"].system.add_query("node", lambda params: [{"node": "node-2", "from": "another version"}])
    answer = await ask(http, cluster.nodes["node-1"], "cluster")
    assert answer["missing"] == ["node-2"]


async def test_nodes_that_go_are_told_apart(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    members = {name: node.member() for name, node in cluster.nodes.items()}
    cluster.members(members["node-1"], members["node-2"], cluster.nodes["node-3"].member("leaving"))
    cluster.members(members["node-1"])
    gone = (await ask(http, cluster.nodes["node-1"], "cluster"))["gone"]
    assert [(node["node"], node["how"]) for node in gone] == [("node-2", "lost"), ("node-3", "stopped")]
    cluster.members(members["node-1"], members["node-2"])
    gone = (await ask(http, cluster.nodes["node-1"], "cluster"))["gone"]
    assert [node["node"] for node in gone] == ["node-3"]


async def test_the_ring_is_the_slot_table(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    ring = await ask(http, cluster.nodes["node-1"], "cluster/ring")
    slots = zlib.decompress(base64.b64decode(ring["slots_z"]))
    assert len(slots) == SLOT_COUNT
    assert ring["owners"] == ["node-1", "node-2", "node-3"]
    table = cluster.view.table
    for number in (0, 1, 777, 65_535):
        owner = table.owner_of_slot(number)
        assert owner is not None and ring["owners"][slots[number]] == owner.node
    assert [slots.count(place) for place in range(3)] == ring["counts"]
    cluster.lose("node-2")
    after = await ask(http, cluster.nodes["node-1"], "cluster/ring")
    assert after["digest"] != ring["digest"] and after["owners"] == ["node-1", "node-3"]
    cluster.members(cluster.nodes["node-1"].member("joining"))
    assert (await ask(http, cluster.nodes["node-1"], "cluster/ring"))["slots_z"] == ""


async def test_live_answers_are_shared_for_a_moment(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-1"]
    asked = 0
    real = node.system.query

    async def counted(name: str, params: dict[str, Any], timeout_s: float | None = None) -> Any:
        nonlocal asked
        asked += 1
        return await real(name, params, timeout_s)

    node.system.query = counted  # type: ignore[method-assign]
    answers = await asyncio.gather(*(ask(http, node, "live") for _ in range(10)))
    assert asked < 10
    assert {len(answer["nodes"]) for answer in answers} == {3}


async def test_history_and_store(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-3"]
    node.system.metrics.sessions = 4
    node.system.metrics.flush_seconds.observe(0.02)
    node.admin.own.sampler.sample()
    rows = (await ask(http, cluster.nodes["node-1"], "history"))["rows"]
    assert [row["node"] for row in rows] == ["node-1", "node-2", "node-3"]
    assert rows[2]["samples"][-1]["sessions"] == 4
    stores = (await ask(http, cluster.nodes["node-1"], "store"))["rows"]
    assert stores[2]["flush_mean_ms"] == 20.0
    assert stores[2]["url"] == "sqlite"  # the kind only: a url may hold a password


def test_history_is_bounded_and_counts_rates() -> None:
    class Clock:
        t = 0.0

        def now(self) -> float:
            return self.t

        boot = now

        def wall_ms(self) -> int:
            return int(self.t * 1000)

    clock, metrics = Clock(), Metrics()
    sampler = Sampler(metrics, clock)
    for _ in range(SAMPLES_KEPT + 10):
        clock.t += 2.0
        metrics.heartbeats_total += 50
        sampler.sample()
    samples = sampler.all()
    assert len(samples) == SAMPLES_KEPT
    assert samples[-1].heartbeats_per_s == 25.0
    assert [one.seq for one in sampler.newest(2)] == [SAMPLES_KEPT + 9, SAMPLES_KEPT + 10]


async def test_activations_by_kind(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    host = cluster.nodes["node-1"].system
    host.actors["player"] = [object(), object()]
    answer = await ask(http, cluster.nodes["node-2"], "activations")
    assert answer["totals"] == {"player": 2, "match": 0}
    assert {"node": "node-1", "kind": "player", "count": 2} in answer["rows"]


async def test_sessions_are_paged_and_filtered(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    for name, count in (("node-1", 5), ("node-2", 2)):
        cluster.nodes[name].sessions = [
            {"session": f"s{n}", "subject": f"{name}-player-{n}", "role": "player", "state": "attached"}
            for n in range(count)
        ]
    node = cluster.nodes["node-1"]
    first = await ask(http, node, "sessions", limit=3)
    assert len(first["rows"]) == 5 and first["next"] == "1"
    second = await ask(http, node, "sessions", limit=3, page=first["next"])
    assert [row["subject"] for row in second["rows"]] == ["node-1-player-3", "node-1-player-4"]
    assert second["next"] is None
    one = await ask(http, node, "sessions", subject="node-2-player-1")
    assert [(row["node"], row["session"]) for row in one["rows"]] == [("node-2", "s1")]


async def test_moves_and_the_journal_are_told(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    metrics = cluster.nodes["node-2"].system.metrics
    metrics.misplaced, metrics.migrations_total, metrics.evictions_total = 7, 40, 1
    for _ in range(99):
        metrics.migration_pause_seconds.observe(0.002)
    metrics.migration_pause_seconds.observe(0.2)
    first, second, _ = (
        node["report"]["moves"] for node in (await ask(http, cluster.nodes["node-1"], "cluster"))["nodes"]
    )
    assert (second["misplaced"], second["migrations_total"], second["evictions_total"]) == (7, 40, 1)
    assert (second["pause_mean_ms"], second["pause_p99_ms"]) == (3.98, 2.5)
    assert (first["pause_mean_ms"], first["pause_p99_ms"]) == (0.0, None)
    metrics.journal_backlog_bytes = 5
    row = (await ask(http, cluster.nodes["node-1"], "store"))["rows"][1]
    assert (row["journal"], row["journal_backlog_bytes"], row["limits"]["journal_bytes"]) == ("none", 5, 0)


# ---- drain ----


async def drain(http: httpx.AsyncClient, node: TestNode, body: Any, **more: Any) -> httpx.Response:
    return await http.post(f"{node.admin.url}/api/v1/drain", json=body, headers=AUTH, **more)


async def test_a_node_is_drained_by_name(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-2"]
    before = await ask(http, node, "drain")
    assert (before["state"], before["done"]) == ("up", False)
    begun = (await drain(http, node, {"node": "node-2", "incarnation": 1})).json()
    assert begun == {
        "node": "node-2", "incarnation": 1, "state": "leaving", "activations_left": 3, "sessions_left": 1,
        "moved": 0, "done": False,
    }  # fmt: skip
    node.left |= {"activations_left": 0, "sessions_left": 0, "moved": 3}
    assert (await ask(http, node, "drain"))["done"] is True
    assert (await drain(http, node, {"node": "node-2"})).json()["done"] is True


async def test_another_node_behind_the_address_is_not_drained(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-1"]
    for body in ({"node": "node-2"}, {"node": "node-1", "incarnation": 7}):
        answer = await drain(http, node, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "another_node")
        assert "node-1 (run 1)" in answer.json()["message"]
    for bad in ({}, {"node": 1}, {"node": "node-1", "more": 1}, []):
        assert (await drain(http, node, bad)).status_code == 400, bad
    assert node.left["state"] == "up"


async def test_a_drain_needs_the_token_and_somewhere_to_go(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    node = cluster.nodes["node-1"]
    assert (await http.post(f"{node.admin.url}/api/v1/drain", json={"node": "node-1"})).status_code == 401
    cluster.lose("node-2", "node-3")
    answer = await drain(http, node, {"node": "node-1"})
    assert (answer.status_code, answer.json()["message"]) == (503, "no other node is up: there is nowhere to go")
    assert node.left["state"] == "up"


# ---- the application's read models ----


async def test_matches_and_one_match(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    host = cluster.nodes["node-2"].system
    match = PlayedMatch("m-1", host.me, teams=2, players=["ann", "bob", "cat", "dan"])
    match.happens(Kill(4_000, "ann", "bob"))
    match.happens(Kill(5_000, "ann", "dan"))
    over = PlayedMatch("m-0", host.me, players=["eve", "fay"])
    over.happens(Ended(9_000, "host_ended", None, 1_700_000_009_000))
    host.actors["match"] = [match, over]
    node = cluster.nodes["node-1"]

    rows = (await ask(http, node, "matches"))["rows"]
    assert [(row["match"], row["node"], row["players"], row["team_scores"]) for row in rows] == [
        ("m-1", "node-2", 4, [2, 0])
    ]
    rows = (await ask(http, node, "query/live_matches", leaders=1))["rows"]
    assert rows[0]["leaders"][0]["player"] == "ann" and rows[0]["leaders"][0]["kills"] == 2

    board = (await ask(http, node, "matches/m-1"))["rows"][0]
    assert (board["phase"], board["map_name"], board["next_seq"], board["node"]) == ("live", "Recharge", 9, "node-2")
    assert [(row["time_ms"], row["player"], row["victim"]) for row in board["feed"] if row["what"] == "kill"] == [
        (5_000, "ann", "dan"),
        (4_000, "ann", "bob"),
    ]
    assert {row["player"]: row["deaths"] for row in board["players"]} == {"ann": 0, "bob": 1, "cat": 0, "dan": 1}


async def test_feed_tells_each_kind_of_event(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    system = cluster.nodes["node-2"].system
    match = PlayedMatch("m-2", system.me, teams=2, players=["ann", "bob"])
    for event in (
        Kill(1_000, "ann", "bob"),
        Kill(1_500, "ann"),
        Death(2_000, "bob"),
        Assist(3_000, "ann"),
        Medal(4_000, "ann", "Snipe"),
        Objective(5_000, "bob", "flag taken", 5),
        Score(6_000, 2, player="ann"),
        Score(7_000, 3, team=1),
        Left(8_000, "bob", "quit"),
        Ended(9_000, "host_ended", "team:0", 1_700_000_009_000),
    ):
        match.happens(event)
    system.actors["match"] = [match]
    (board,) = (await ask(http, cluster.nodes["node-1"], "matches/m-2"))["rows"]
    fields = ("time_ms", "what", "player", "victim", "detail", "points")
    feed = [tuple(row[field] for field in fields) for row in board["feed"]]
    assert feed[:10] == [
        (9_000, "ended", "team:0", "", "host_ended", 0),
        (8_000, "left", "bob", "", "quit", 0),
        (7_000, "score", "team 1", "", "", 3),
        (6_000, "score", "ann", "", "", 2),
        (5_000, "objective", "bob", "", "flag taken", 5),
        (4_000, "medal", "ann", "", "Snipe", 0),
        (3_000, "assist", "ann", "", "", 0),
        (2_000, "death", "bob", "", "", 0),
        (1_500, "kill", "ann", "", "", 0),
        (1_000, "kill", "ann", "bob", "", 0),
    ]
    assert [row["what"] for row in board["feed"][10:]] == ["joined", "joined"]  # of the start and the creation: nothing


async def test_stored_matches_and_their_players_come_from_the_store(
    cluster: TestCluster, http: httpx.AsyncClient
) -> None:
    cluster.stored["stored_matches"] = [{"match": "m-9"}, {"match": "m-8"}]
    cluster.stored["match_players"] = [{"player": "ann"}]
    node = cluster.nodes["node-3"]
    assert (await ask(http, node, "stored-matches", limit=1))["rows"] == [{"match": "m-9"}]
    assert (await ask(http, node, "stored-matches/m-9"))["rows"] == [{"player": "ann"}]
    answer = await http.get(f"{node.admin.url}/api/v1/stored-matches/bad%20key", headers=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")


async def test_a_player_is_stored_or_in_memory_or_not_there(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    row = {"player": "ann", "status": "offline", "friends": 3}
    cluster.stored["stored_players"] = [row]
    node = cluster.nodes["node-1"]
    assert (await ask(http, node, "players", limit=1))["rows"] == [row]
    assert await ask(http, node, "players/ann") == {"stored": row, "rows": [], "missing": []}
    answer = await http.get(f"{node.admin.url}/api/v1/players/an", headers=AUTH)  # the next name is another one
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def fails(context: AdminContext, body: object) -> None:
    raise RuntimeError("planted, with a secret")


class Nothing(msgspec.Struct):
    pass


async def test_action_that_fails_is_logged_with_its_principal_and_tells_nothing(http: httpx.AsyncClient) -> None:
    app = msgspec.structs.replace(APP, actions={"fail": Action(fails, Nothing)})
    async with TestCluster(1, app) as cluster:
        with structlog.testing.capture_logs() as lines:
            answer = await http.post(f"{cluster.nodes['node-1'].admin.url}/api/v1/actions/fail", json={}, headers=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    (line,) = [line for line in lines if line["event"] == "admin action"]
    assert (line["action"], line["principal"], line["ended"]) == ("fail", "admin", "RuntimeError")


@pytest.mark.parametrize("path", ["cluster", "history/{day}", "actions", "actions/mine", "", "a b", "{key}"])
async def test_console_route_with_a_name_of_the_engines_is_refused(path: str) -> None:
    app = msgspec.structs.replace(APP, console={path: fails})
    with pytest.raises(BadSetting, match="a console route cannot be called"):
        TestCluster(1, app)


async def test_an_unknown_match_is_404_only_if_all_answered(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    url = f"{cluster.nodes['node-1'].admin.url}/api/v1/matches/nobody"
    answer = await http.get(url, headers=AUTH)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    cluster.silent.add("node-2")
    answer = await http.get(url, headers=AUTH)
    assert (answer.status_code, answer.json()["missing"]) == (200, ["node-2"])


BAD_REQUESTS = [
    ("sessions?limit=0", 400, "bad_input", "limit"),
    ("sessions?limit=9999", 400, "bad_input", "limit"),
    ("sessions?page=one", 400, "bad_input", "page"),
    ("matches/bad%20key", 400, "bad_input", "match"),
    ("query/match_board", 400, "bad_input", "match"),
    ("query/live_matches?limit=many", 400, "bad_input", "limit"),
    ("query/live_matches?limit=1&limit=2", 400, "bad_input", "once"),
    ("query/sessions", 400, "bad_input", "offset"),
    ("query/sessions?offset=0&limit=many", 400, "bad_input", "limit"),
    (f"query/sessions?offset=x{'9' * 30}&limit=1", 400, "bad_input", "offset"),
    ("query/nothing_such", 404, "not_found", "nothing_such"),
    ("query/Bad-Name", 400, "bad_input", "name"),
    (f"query/live_matches?x={'y' * 300}", 400, "bad_input", "longer"),
    ("nowhere", 404, "not_found", "page"),
]  # path, status, code, word


async def test_bad_requests_say_what_is_wrong(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    for path, status, code, word in BAD_REQUESTS:
        answer = await http.get(f"{cluster.nodes['node-1'].admin.url}/api/v1/{path}", headers=AUTH)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), (path, problem)
        assert word in problem["message"], path


async def test_numbers_beyond_all_sessions_give_none(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    url = f"{cluster.nodes['node-1'].admin.url}/api/v1/query/sessions?offset={'9' * 30}&limit={'9' * 30}"
    answer = await http.get(url, headers=AUTH)
    assert (answer.status_code, answer.json()["rows"]) == (200, [])


async def test_only_get_is_answered(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{cluster.nodes['node-1'].admin.url}/api/v1/cluster", headers=AUTH)
    assert answer.status_code == 405


async def test_a_failing_read_model_is_an_internal_error_without_details(http: httpx.AsyncClient) -> None:
    def broken(activations: Any, params: Any) -> list[Any]:
        raise RuntimeError("a secret of the server")

    async with TestCluster(1, app=App(name="broken", actors=(), read_models={"broken": broken})) as cluster:
        answer = await http.get(f"{cluster.nodes['node-1'].admin.url}/api/v1/query/broken", headers=AUTH)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "secret" not in answer.text


# ---- pages, headers, CORS ----


async def test_the_dashboard_and_the_pages_of_the_application(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    base = cluster.nodes["node-1"].admin.url
    index = await http.get(f"{base}/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert (await http.get(f"{base}/pages.json")).json() == {
        "app": "halo",
        "modules": ["matches.js", "moderation.js", "players.js"],
        "cluster": True,
    }
    page = await http.get(f"{base}/app/matches.js")
    assert page.headers["content-type"].startswith("text/javascript")
    again = await http.get(f"{base}/app/matches.js", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("/static/js/main.js", "/static/css/dashboard.css", "/static/icon.svg", "/app/matches.css"):
        assert (await http.get(base + path)).status_code == 200, path
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/app/nothing.js", "/static/"):
        assert (await http.get(base + path)).status_code == 404, path


async def test_the_page_asks_for_nothing_from_elsewhere(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    base = cluster.nodes["node-1"].admin.url
    index = (await http.get(f"{base}/")).text
    assert "http://" not in index and "https://" not in index and "<script>" not in index and "style=" not in index


async def test_security_headers(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    for path in ("/", "/healthz", "/api/v1/live", "/nowhere"):
        headers = (await http.get(cluster.nodes["node-1"].admin.url + path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "connect-src 'self' http://127.0.0.1:*" in policy
        assert "server" not in headers
    headers = (await http.get(f"{cluster.nodes['node-1'].admin.url}/api/v1/live", headers=AUTH)).headers
    assert headers["cache-control"] == "no-store"


async def test_pages_of_known_peers_may_read_the_api(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    peer = cluster.nodes["node-2"].admin.url
    wanted = {"origin": peer, "access-control-request-method": "GET", "access-control-request-headers": "authorization"}
    url = f"{cluster.nodes['node-1'].admin.url}/api/v1/live"
    before = await http.options(url, headers=wanted)
    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == peer
    assert before.headers["access-control-allow-headers"] == "authorization, content-type"
    assert (await http.get(url, headers={**AUTH, "origin": peer})).headers["access-control-allow-origin"] == peer
    other_name = peer.replace("127.0.0.1", "localhost")
    assert (await http.options(url, headers={**wanted, "origin": other_name})).status_code == 204

    cluster.lose("node-2")  # its page lives on
    assert (await http.options(url, headers=wanted)).status_code == 204

    stranger = {**wanted, "origin": "http://evil.example"}
    refused = await http.options(url, headers=stranger)
    assert refused.status_code == 403
    got = await http.get(url, headers={**AUTH, "origin": "http://evil.example"})
    assert "access-control-allow-origin" not in got.headers


def test_known_origins_are_bounded_and_forget_the_oldest() -> None:
    known = KnownOrigins(bound=2)
    known.add(["http://a:1/x", "not a url", ""])
    known.add(["https://b:2"])
    known.add(["http://a:1", "http://c:3"])
    assert "https://b:2" not in known
    assert "HTTP://A:1" in known and "http://c:3" in known
    assert known.connectable() == ["http://a:*", "http://c:*"]
    known.add(["http://d:1"])
    assert known.connectable() == ["http://c:*", "http://d:*"]


async def test_openapi_names_every_path(cluster: TestCluster, http: httpx.AsyncClient) -> None:
    schema = (await http.get(f"{cluster.nodes['node-1'].admin.url}/api/openapi.json")).json()
    paths = set(schema["paths"])
    assert {"/healthz", "/readyz", "/metrics", "/api/v1/live", "/api/v1/cluster", "/api/v1/query/{name}"} <= paths
    assert not any(path.startswith(("/static", "/app")) for path in paths)
    assert schema["paths"]["/api/v1/cluster"]["get"]["security"] == [{"adminToken": []}]
    assert "NodeInfo" in str(schema["components"]["schemas"])


# ---- life of the server ----


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as caught:
            TestCluster(1, port=port)
    assert caught.value.message == f"setting admin.port: cannot listen on 127.0.0.1:{port}: the port is taken"


async def test_two_nodes_cannot_hold_one_port() -> None:
    first = TestCluster(1)
    port = int(first.nodes["node-1"].admin.url.rpartition(":")[2])
    with pytest.raises(Unavailable):
        TestCluster(1, port=port)
    await first.nodes["node-1"].stop()
    second = TestCluster(1, port=port)
    await second.nodes["node-1"].stop()


async def test_stop_is_prompt_and_leaves_no_task(http: httpx.AsyncClient) -> None:
    cluster = TestCluster(1)
    node = cluster.nodes["node-1"]
    async with cluster:
        assert (await http.get(f"{node.admin.url}/healthz")).status_code == 200  # keeps its connection open
        async with asyncio.timeout(2):
            await node.admin.stop()
        assert len(node.supervisor) == 0
        with pytest.raises(httpx.TransportError):
            await http.get(f"{node.admin.url}/healthz")


async def test_advertised_url_and_missing_pages() -> None:
    cluster = TestCluster(1, advertise_url="https://garrison.example/")
    assert cluster.nodes["node-1"].admin.url == "https://garrison.example/"
    await cluster.nodes["node-1"].stop()
    with pytest.raises(BadSetting, match="does not exist"):
        TestCluster(1, app=msgspec.structs.replace(APP, pages="/nowhere/at/all"))


WRITES = "import sys; open(sys.argv[sys.argv.index('--to') + 1], 'w').write('[' + 300_000 * '1' + ']')"


async def test_export_is_sent_whole_to_who_may_have_it(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = msgspec.structs.replace(APP, exports={"person": ExportCommand(("person", "export"), "nothing")})
    monkeypatch.setattr("server.admin.exports._PROGRAM", WRITES)
    async with TestCluster(1, app) as cluster:
        url = f"{cluster.nodes['node-1'].admin.url}/api/v1/exports"
        assert (await http.get(f"{url}/person/ann")).status_code == 401
        with structlog.testing.capture_logs() as lines:
            answer = await http.get(f"{url}/person/ann", headers=AUTH)
        assert (answer.status_code, answer.text) == (200, f"[{300_000 * '1'}]")
        assert answer.headers["content-type"].startswith("application/json")
        assert [line["action"] for line in lines if line["event"] == "admin action"] == ["export person ann"]
        for path, status in (("person/ann?timeout_s=0", 400), ("clan/ann", 404), ("person/a%20b", 400)):
            assert (await http.get(f"{url}/{path}", headers=AUTH)).status_code == status

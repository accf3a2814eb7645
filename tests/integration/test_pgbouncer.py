"""Nodes behind PgBouncer (F14): session mode works, others are refused in a line. Skipped where there is none."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

import migrations
from server.errors import BadSetting
from server.ids import NodeAddress, NodeId
from tests.support.databases import postgres_url, sql_store
from tests.support.ports import free_ports
from tests.support.waiting import until

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no pgbouncer here")
OURS = "default_transaction_isolation,statement_timeout,lock_timeout,idle_in_transaction_session_timeout,"
OURS += "enable_hashjoin,enable_mergejoin,enable_seqscan,jit"


class Bouncer:
    """PgBouncer before the test server. `url` is for a database of its own."""

    def __init__(self, folder: Path, mode: str, ignored: str) -> None:
        there = make_url(postgres_url())
        host = str(there.query.get("host") or there.host)
        (self.port,) = free_ports()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/{there.database}"
        (folder / "users").write_text('"postgres" ""\n')
        lines = [
            "[databases]", f"* = host={host} port={there.query.get('port') or there.port or 5432} user=postgres",
            "[pgbouncer]", "listen_addr=127.0.0.1", f"listen_port={self.port}", "auth_type=any", "unix_socket_dir=",
            f"auth_file={folder}/users", f"pool_mode={mode}",
        ]  # fmt: skip
        if ignored:
            lines.append(f"ignore_startup_parameters={ignored}")
        (folder / "ini").write_text("\n".join(lines) + "\n")
        for place in (folder, *folder.parents):
            if str(place).startswith("/tmp/"):
                place.chmod(0o755)
        owner = Path(host).owner() if host.startswith("/") else "nobody"
        self._process = subprocess.Popen([str(PROGRAM), "-q", "-u", owner, f"{folder}/ini"], stderr=subprocess.DEVNULL)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def bouncer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bouncer]:
    made = Bouncer(tmp_path, *request.param)
    yield made
    made.stop()


@pytest.mark.parametrize("query", ["", "?pgbouncer=true"])
@pytest.mark.parametrize("bouncer", [("session", ""), ("session", OURS)], indirect=True)
async def test_session_mode_keeps_what_the_protocol_needs(bouncer: Bouncer, query: str) -> None:
    """F14: whether it refuses settings with the login or drops them."""
    await until(bouncer.answers)
    assert await migrations.current_async(bouncer.url + query) == migrations.newest()
    store = sql_store(bouncer.url + query, statement_timeout_s=20.0, lease_period_s=20.0, lease_renew_s=10.0)
    await store.open()

    async def shown(connection: Any) -> list[str]:
        names = ("enable_seqscan", "statement_timeout", "transaction_isolation")
        return [await connection.fetchval(f"SHOW {name}") for name in names]

    try:
        node = NodeAddress(NodeId("n"), await store.register_node(NodeId("n"), 60.0))
        assert await store.renew_lease(node, 60.0)
        pool = store._database._pool  # type: ignore[attr-defined]
        assert await pool.run(shown) == ["off", "20s", "read committed"]
        assert await pool.run(shown, lane="lease") == ["off", "9s", "read committed"]
    finally:
        await store.close()


@pytest.mark.parametrize("bouncer", [("transaction", ""), ("transaction", OURS), ("statement", OURS)], indirect=True)
async def test_other_modes_are_refused_at_start(bouncer: Bouncer) -> None:
    """F14."""
    await until(bouncer.answers)
    with pytest.raises(BadSetting, match=r"store\.url: .*session mode"):
        await sql_store(bouncer.url + "?pgbouncer=true").open()

"""Words to a service manager, at a real socket."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import Unavailable
from server.runtime.service_manager import ServiceManager


class Systemd:
    """A socket as systemd has: what came in, and the descriptors that came along."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(30.0)
        self.manager = ServiceManager({"NOTIFY_SOCKET": address})

    def heard(self) -> tuple[list[str], list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self.socket, 4096, 4)
        return data.decode().split("\n"), descriptors


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    found = Systemd(str(tmp_path / "notify") if request.param == "file" else f"@garrison-test-{os.getpid()}")
    yield found
    found.socket.close()


async def test_a_service_manager_hears_of_readiness_and_of_a_succession(systemd: Systemd) -> None:
    systemd.manager.ready("serving")
    assert systemd.heard() == (["READY=1", "STATUS=serving"], [])
    systemd.manager.reloading()
    lines, _ = systemd.heard()
    assert lines[0] == "RELOADING=1"
    name, _, since = lines[1].partition("=")
    assert name == "MONOTONIC_USEC" and 0 <= time.monotonic_ns() // 1000 - int(since) < 5_000_000
    systemd.manager.stopping()
    assert systemd.heard() == (["STOPPING=1"], [])


@pytest.mark.loops("asyncio", "uvloop")
async def test_another_main_process_is_told_and_the_barrier_waited_for(systemd: Systemd) -> None:
    telling = asyncio.ensure_future(systemd.manager.main_process(4711))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(systemd.heard) == (["MAINPID=4711"], [])
    lines, descriptors = await asyncio.to_thread(systemd.heard)
    assert lines == ["BARRIER=1"] and len(descriptors) == 1
    assert not telling.done()
    os.close(descriptors[0])
    await asyncio.wait_for(telling, 30.0)


async def test_a_service_manager_that_does_not_read_is_told_of(systemd: Systemd) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await systemd.manager.main_process(4711, within_s=0.01)


async def test_nobody_is_told_anything_where_there_is_no_service_manager(tmp_path: Path) -> None:
    nobody = ServiceManager({})
    assert not nobody.there
    nobody.ready()
    await nobody.main_process(1)
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.ready()  # logged, and the node goes on
    with pytest.raises(Unavailable, match="cannot be told"):
        await gone.main_process(1)  # else it would take the end of the old process for that of the service

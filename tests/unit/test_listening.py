"""A host in the settings means the same on every port (F19, F20)."""

import contextlib
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from server.errors import BadSetting
from server.runtime.listening import is_every, listen
from server.runtime.metrics import Metrics
from server.sessions.picows_driver import PicowsListener
from server.settings import GatewaySettings
from tests.support.admin import TestCluster
from tests.support.node_certificates import write


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@contextlib.contextmanager
def listening(host: str) -> Iterator[int]:
    sockets = listen(host, 0, 8)
    try:
        ports = {sock.getsockname()[1] for sock in sockets}
        assert len(ports) == 1
        yield ports.pop()
    finally:
        for sock in sockets:
            sock.close()


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_every_interface_is_ipv4_too() -> None:
    for host in ("::", "", "[::]", "0.0.0.0"):
        with listening(host) as port:
            assert answers("127.0.0.1", port), host


@needs_ipv6
def test_each_host_is_listened_on_by_the_families_that_it_means() -> None:
    for host, wanted in {"::": True, "": True, "0.0.0.0": False, "127.0.0.1": False, "::1": True}.items():
        with listening(host) as port:
            assert answers("::1", port) is wanted, host
            assert answers("127.0.0.1", port) is (host != "::1"), host


def test_localhost_is_listened_on_at_each_of_its_addresses_and_one_port() -> None:
    with listening("localhost") as port:
        for _, _, _, _, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
            assert answers(str(address[0]), port) or not has_ipv6()


def test_every_interface_is_told_in_all_its_spellings() -> None:
    assert all(is_every(host) for host in ("", "::", "0.0.0.0", "[::]", "0:0:0:0:0:0:0:0", "::0"))
    assert not any(is_every(host) for host in ("::1", "127.0.0.1", "localhost", "10.0.0.0", "a.example"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0:0:0:0:0:0:0:0"])
def test_a_gateway_on_every_interface_needs_an_address_to_tell(host: str) -> None:
    """F19: refused at start, as the transport's is; also where the address told is no address."""
    gateway: Any = SimpleNamespace(metrics=Metrics())
    settings = GatewaySettings(host=host)
    with pytest.raises(BadSetting, match=r"gateway\.advertise_url: needed"):
        PicowsListener(gateway, settings)
    with pytest.raises(BadSetting, match=r"gateway\.advertise_url: names every interface"):
        PicowsListener(gateway, replace(settings, advertise_url="ws://0.0.0.0:7350"))
    PicowsListener(gateway, replace(settings, advertise_url="ws://play.example:7350"))


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_of_the_admin_side_that_is_nobodys_is_refused(host: str) -> None:
    with pytest.raises(BadSetting, match=r"admin\.advertise_url: names every interface"):
        TestCluster(1, advertise_url=f"http://{host}:7360")


@pytest.mark.parametrize(("name", "complaint"), [("expired", "certificate has expired"), ("node", "")])
async def test_a_certificate_of_the_gateway_is_looked_at_when_it_starts(
    name: str, complaint: str, tmp_path: Path
) -> None:
    """Told as a trouble, and not refused: a client may trust it nevertheless."""
    files = write(tmp_path, name)
    gateway: Any = SimpleNamespace(metrics=Metrics())
    settings = GatewaySettings(port=0, tls_certificate=files.certificate, tls_key=files.key)
    listener = PicowsListener(gateway, settings)
    await listener.start()
    told = f"clients refuse gateway.tls_certificate {files.certificate}: {complaint}" if complaint else ""
    assert listener.complaint == told
    listener.reload(changed_only=True)
    assert listener.complaint == told
    replacement = write(tmp_path, "second")
    shutil.copy(replacement.certificate, files.certificate)
    shutil.copy(replacement.key, files.key)
    assert listener.reload(changed_only=True)
    assert listener.complaint == ""
    await listener.stop()

"""Encrypted links between nodes: who gets nowhere, and what the log says of it. What every transport does, encrypted
too, is in `test_transport.py`."""

import asyncio
import os
import secrets
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from server.errors import BadSetting, Unavailable
from server.ids import NodeAddress
from server.settings import TransportSettings
from server.transport.encryption import Channel, Encryption, Ends
from server.transport.frames import HELLO, REFUSED, REQUEST, FrameReader, frame
from server.transport.login import NONCE_BYTES, encode_hello, hello
from server.transport.self_signed import self_signed
from tests.support.node_certificates import CA, OTHER_CA, Files, write
from tests.support.transports import EncryptedRig, Node, TcpRig, address, until

CALL = 1
pytestmark = pytest.mark.loops("asyncio", "uvloop")


@pytest.fixture
async def rig() -> AsyncIterator[EncryptedRig]:
    rig = EncryptedRig()
    yield rig
    await rig.close()


@pytest.fixture
async def plain() -> AsyncIterator[TcpRig]:
    rig = TcpRig()
    yield rig
    await rig.close()


def echo(_caller: NodeAddress, payload: bytes) -> bytes:
    return payload


def with_files(files: Files) -> TransportSettings:
    return TransportSettings(tls_certificate=files.certificate, tls_key=files.key, tls_ca=files.ca)


async def refused(a: Node, b: Node, endpoint: str = "", both: bool = False) -> tuple[str, list[str]]:
    """The complaint of `a`, which cannot call `b`, and those that the log has, of `both` or of `a` at least."""
    with capture_logs() as lines:
        a.transport.set_peers({b.me: endpoint or b.transport.endpoint})
        with pytest.raises(Unavailable) as caught:
            await a.transport.request(b.me, CALL, b"secret", 5.0)

        def said() -> list[str]:
            return [str(line["why"]) for line in lines if "why" in line]

        wanted = {"cannot reach node", "a connection of a node was refused"} if both else {"cannot reach node"}
        await until(lambda: wanted <= {line["event"] for line in lines})
        return caught.value.message, said()


async def works(a: Node, b: Node) -> None:
    a.knows(b)
    assert await a.transport.request(b.me, CALL, b"hello", 5.0) == b"hello"


# ---- the certificate that a process makes for itself ----


def test_openssl_takes_the_certificate_and_its_signature() -> None:
    """A client that trusts this very certificate accepts it: OpenSSL finds the key to fit, and the form to be right."""
    for _ in range(5):
        pair = self_signed()
        assert ssl.DER_cert_to_PEM_cert(pair.certificate)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        trusting.load_verify_locations(cadata=pair.certificate)
        accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        descriptor = os.memfd_create("pair")
        os.write(descriptor, pair.pem)
        accepting.load_cert_chain(f"/proc/self/fd/{descriptor}")
        os.close(descriptor)
        ends = Ends(trusting, accepting, b"", pair.certificate)
        dialling, other = Channel(ends, accepting=False), Channel(ends, accepting=True)
        dialling.shake()
        other.receive(dialling.waiting())
        dialling.receive(other.waiting())
        assert dialling.established


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 300_000])
def test_a_channel_gives_back_what_it_was_given(size: int) -> None:
    dialling, accepting = shaken(Encryption(TransportSettings()).ends)
    data = secrets.token_bytes(size)
    sealed = dialling.send(data + b".")
    assert data[:16] not in sealed or size < 16
    cut = len(sealed) // 2
    assert accepting.receive(sealed[:cut]) + accepting.receive(sealed[cut:]) == data + b"."
    assert dialling.binding() == accepting.binding()


def shaken(ends: Ends) -> tuple[Channel, Channel]:
    dialling, accepting = Channel(ends, accepting=False), Channel(ends, accepting=True)
    dialling.shake()
    while not (dialling.established and accepting.established):
        accepting.receive(dialling.waiting())
        dialling.receive(accepting.waiting())
    return dialling, accepting


# ---- in between ----


@asynccontextmanager
async def in_between(
    endpoint: str, accepting: ssl.SSLContext | None, dialling: ssl.SSLContext | None
) -> AsyncIterator[tuple[str, bytearray]]:
    """Somebody who takes connections, ends their TLS, opens another to `endpoint` and passes on what comes; yields the
    address, and everything that was heard."""
    heard = bytearray()
    host, _, port = endpoint.rpartition(":")
    tasks: list[asyncio.Task[None]] = []

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                heard.extend(data)
                target.write(data)
        except OSError:
            pass
        target.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = await asyncio.open_connection(host, int(port), ssl=dialling, server_hostname="" if dialling else None)
        tasks.extend((asyncio.ensure_future(copy(reader, onward[1])), asyncio.ensure_future(copy(onward[0], writer))))

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=accepting)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_bytes_on_the_way_cannot_be_read_or_recognised(rig: EncryptedRig) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    async with in_between(b.transport.endpoint, None, None) as (endpoint, heard):
        a.transport.set_peers({b.me: endpoint})
        assert await a.transport.request(b.me, CALL, b"a secret of some length", 5.0) == b"a secret of some length"
        assert len(heard) > 500
        assert b"secret" not in heard
        assert b"test" not in heard


@pytest.mark.parametrize("given", [False, True], ids=["from the key", "given"])
async def test_a_man_in_the_middle_is_found(rig: EncryptedRig, given: bool, tmp_path: Path) -> None:
    """Who ends the TLS of both ends with a certificate of their own (one by the same authority, where there is one) and
    passes the login on word for word hears no more than that login."""
    settings = with_files(write(tmp_path, "node")) if given else None
    foreign = Encryption(with_files(write(tmp_path, "second"))) if given else Encryption(TransportSettings())
    a, b = await rig.node("a", settings=settings), await rig.node("b", {CALL: echo}, settings)
    async with in_between(b.transport.endpoint, foreign.ends.accepting, foreign.ends.dialling) as (endpoint, heard):
        message, said = await refused(a, b, endpoint)
        assert "somebody is in between" in message
        assert any("somebody is in between" in why for why in said)
        assert a.metrics.transport_closes_total == {"man in the middle": 1}
        assert b"secret" not in heard
        assert not b.transport._inbound  # type: ignore[attr-defined]


async def test_the_acceptor_finds_a_man_in_the_middle_too(rig: EncryptedRig) -> None:
    """A dialler that does not compare: the acceptor refuses its proof, which names other certificates."""
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    foreign = Encryption(TransportSettings())
    async with in_between(b.transport.endpoint, foreign.ends.accepting, foreign.ends.dialling) as (endpoint, _):
        with capture_logs() as lines, pytest.MonkeyPatch.context() as patched:
            patched.setattr("server.transport.dialled.check", lambda *_: "good")
            a.transport.set_peers({b.me: endpoint})
            with pytest.raises(Unavailable):
                await a.transport.request(b.me, CALL, b"secret", 5.0)
    assert b.metrics.transport_closes_total.get("man in the middle") == 1
    assert any("a@1 at 127.0.0.1" in str(line.get("peer")) or "in between" in str(line.get("why")) for line in lines)


# ---- those who are refused ----


async def test_a_wrong_key_is_refused_and_said(rig: EncryptedRig) -> None:
    other = EncryptedRig()
    other.key = bytes(32)
    a, b = await other.node("a"), await rig.node("b", {CALL: echo})
    message, said = await refused(a, b)
    assert "has another cluster key (security.cluster_key)" in message
    assert message in said
    await other.close()


async def test_a_certificate_of_another_authority_is_refused_and_said(rig: EncryptedRig, tmp_path: Path) -> None:
    good, foreign = with_files(write(tmp_path, "node")), with_files(write(tmp_path, "foreign", OTHER_CA))
    a, b = await rig.node("a", {CALL: echo}, foreign), await rig.node("b", {CALL: echo}, good)
    message, said = await refused(a, b, both=True)
    assert "its certificate is refused: self-signed certificate in certificate chain" in message
    assert any("it refuses this node's certificate: unknown ca" in why for why in said)


async def test_a_dialler_without_a_good_certificate_is_refused_and_said(rig: EncryptedRig, tmp_path: Path) -> None:
    """It trusts the acceptor, which does not trust it."""
    both = write(tmp_path, "foreign", CA + OTHER_CA)
    good = with_files(write(tmp_path, "node"))
    a, b = await rig.node("a", settings=with_files(both)), await rig.node("b", {CALL: echo}, good)
    message, said = await refused(a, b, both=True)
    assert "it refuses this node's certificate: unknown ca" in message
    assert any("its certificate is refused" in why for why in said)


async def test_a_node_with_certificates_and_one_without_say_so(rig: EncryptedRig, tmp_path: Path) -> None:
    given, made = (
        await rig.node("a", {CALL: echo}, with_files(write(tmp_path, "node"))),
        await rig.node("b", {CALL: echo}),
    )
    message, _ = await refused(given, made)
    assert "its certificate is refused: self-signed certificate" in message
    message, _ = await refused(made, given)
    assert "it refuses this node's certificate: certificate required" in message


async def test_a_plain_node_is_refused_on_both_ways(rig: EncryptedRig, plain: TcpRig) -> None:
    a, b = await plain.node("a", {CALL: echo}), await rig.node("b", {CALL: echo})
    message, said = await refused(a, b, both=True)
    assert "it is not encrypted, and transport.encryption is required here" in message
    assert any("it is not encrypted" in why for why in said if why != message)
    message, said = await refused(b, a, both=True)
    assert "it speaks no TLS: an older version, or transport.encryption is off there" in message
    assert any("it speaks TLS, and transport.encryption is off here" in why for why in said)


async def test_a_stranger_in_plain_learns_nothing_but_why(rig: EncryptedRig) -> None:
    """A version without encryption, by hand."""
    b = await rig.node("b", {CALL: echo})
    host, _, port = b.transport.endpoint.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(frame(HELLO, encode_hello(hello("test", address("a"), b.me, bytes(NONCE_BYTES)))))
    writer.write(frame(REQUEST, b"x", CALL, 1))
    got = FrameReader(1 << 16).feed(await reader.read())
    assert [kind for kind, *_ in got] == [REFUSED]
    assert b"transport.encryption is required here" in got[0][3]
    assert b.metrics.transport_closes_total == {"not encrypted": 1}
    writer.close()


async def test_a_version_without_encryption_hangs_up_and_it_is_said(rig: EncryptedRig) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.transport.abort()  # as for a frame that is too large

    a = await rig.node("a")
    server = await asyncio.start_server(old, "127.0.0.1", 0)
    with capture_logs() as lines:
        a.transport.set_peers({address("b"): f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        with pytest.raises(Unavailable, match="a version without encryption"):
            await a.transport.request(address("b"), CALL, b"", 5.0)
        await until(lambda: any("a version without encryption" in str(line.get("why")) for line in lines))
    await a.transport.stop()
    server.close()


async def test_damaged_records_close_the_link_alone(rig: EncryptedRig) -> None:
    a, b = await rig.node("a"), await rig.node("b", {CALL: echo})
    await works(a, b)
    host, _, port = b.transport.endpoint.rpartition(":")
    for noise in (b"\x16\x03\x01\xff\xff", b"\x16" * 2_000, b"\x16\x03\x01\x00\x05hello", secrets.token_bytes(500)):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(noise)
        writer.write_eof()
        await reader.read()
        writer.close()
    await works(a, b)
    assert b.metrics.transport_handler_crashes_total == 0


# ---- an upgrade ----


ALLOWED = TransportSettings(encryption="allowed")


async def test_a_rolling_upgrade_keeps_all_links(rig: EncryptedRig, plain: TcpRig) -> None:
    """Old nodes, which know no encryption, then `allowed`, then `required`: neighbours in it reach each other."""
    old = await plain.node("old", {CALL: echo})
    middle = await rig.node("middle", {CALL: echo}, ALLOWED)
    new = await rig.node("new", {CALL: echo})
    with capture_logs() as lines:
        middle.transport.set_peers({old.me: old.transport.endpoint, new.me: new.transport.endpoint})
        await until(lambda: middle.transport.reaches(old.me) and middle.transport.reaches(new.me))
        await works(middle, old)
        assert any(line["event"] == "node is reached without encryption" for line in lines)
    await works(old, middle)
    await works(new, middle)


async def test_nothing_but_a_lack_of_tls_makes_a_link_plain(rig: EncryptedRig, tmp_path: Path) -> None:
    """Certificates that do not fit are no reason to go on without."""
    given = msgspec.structs.replace(with_files(write(tmp_path, "node")), encryption="allowed")
    a, b = await rig.node("a", {CALL: echo}, given), await rig.node("b", {CALL: echo}, ALLOWED)
    message, _ = await refused(a, b)
    assert "certificate is refused" in message
    assert not a.transport.reaches(b.me)


# ---- certificates at start, and while it runs ----


async def test_certificates_of_one_authority_work_together(rig: EncryptedRig, tmp_path: Path) -> None:
    a = await rig.node("a", {CALL: echo}, with_files(write(tmp_path, "node")))
    b = await rig.node("b", {CALL: echo}, with_files(write(tmp_path, "second")))
    await works(a, b)
    await works(b, a)


def _unreadable(files: Files) -> None:
    Path(files.certificate).unlink()


def _no_pem(files: Files) -> None:
    Path(files.certificate).write_text("no certificate")


def _become(files: Files, others: Files) -> None:
    for path, other in zip(files, others, strict=True):
        Path(path).write_text(Path(other).read_text())


def _other_key(files: Files) -> None:
    Path(files.key).write_text(Path(files.key).with_name("second.key").read_text())


def _other_ca(files: Files) -> None:
    Path(files.ca).write_text(OTHER_CA)


def _no_ca(files: Files) -> None:
    Path(files.ca).write_text("")


@pytest.mark.parametrize(
    ("name", "damage", "field", "complaint"),
    [
        ("node", _unreadable, "transport.tls_certificate", "node.pem: No such file or directory"),
        ("node", _no_pem, "transport.tls_certificate", "no certificate in PEM form"),
        ("node", _other_key, "transport.tls_certificate", "key values mismatch"),
        ("node", _other_ca, "transport.tls_certificate", "unable to get local issuer certificate"),
        ("node", _no_ca, "transport.tls_ca", "cannot read"),
        ("expired", lambda _: None, "transport.tls_certificate", "certificate has expired"),
    ],
)
def test_certificates_are_checked_at_start_in_one_line(
    name: str, damage: Callable[[Files], Any], field: str, complaint: str, tmp_path: Path
) -> None:
    write(tmp_path, "second")
    files = write(tmp_path, name)
    damage(files)
    with pytest.raises(BadSetting) as caught:
        Encryption(with_files(files))
    assert caught.value.field == field
    assert complaint in caught.value.message
    assert "\n" not in caught.value.message


async def test_replaced_certificates_are_used_for_new_links(rig: EncryptedRig, tmp_path: Path) -> None:
    """As the gateway's (F23): told or changed, and files that are no good leave those before."""
    files = write(tmp_path, "node")
    a, b = await rig.node("a", {CALL: echo}, with_files(files)), await rig.node("b", {CALL: echo}, with_files(files))
    assert not a.transport.reload(changed_only=True)
    assert a.transport.reload()
    _no_pem(files)
    with pytest.raises(BadSetting):
        a.transport.reload(changed_only=True)
    await works(a, b)
    second = write(tmp_path, "second")
    _become(files, second)
    assert b.transport.reload(changed_only=True)
    assert not b.transport.reload(changed_only=True)
    await works(a, b)  # over the link that there was
    await works(b, a)  # over one of the new certificate
    await works(await rig.node("c", settings=with_files(second)), b)


def test_a_certificate_that_expires_while_it_is_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, "expired")
    with monkeypatch.context() as patched:  # it was good when the node started
        patched.setattr("server.transport.encryption._complaint", lambda _ends: "")
        encryption = Encryption(with_files(files))
    assert not encryption.reload(changed_only=True)
    expected = f"other nodes refuse transport.tls_certificate {files.certificate}: certificate has expired"
    assert encryption.complaint == expected
    _become(files, write(tmp_path, "node"))
    assert encryption.reload(changed_only=True)
    assert encryption.complaint == ""


def test_a_process_keeps_no_file_of_its_key() -> None:
    Encryption(TransportSettings())
    opened = subprocess.run(["ls", "-l", f"/proc/{os.getpid()}/fd"], capture_output=True, text=True, check=True)
    assert "memfd:certificate" not in opened.stdout

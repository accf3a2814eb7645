"""SIGHUP to a node: it reads its certificates and token keys again and goes on (F21, F23)."""

import signal
from pathlib import Path

from tests.support import node_certificates
from tests.support.certificates import write_self_signed
from tests.support.program import Running, here


def test_a_hangup_reloads_and_never_ends_a_node(tmp_path: Path) -> None:
    cert, key = write_self_signed(tmp_path)
    links = node_certificates.write(tmp_path, "node")
    other_keys = tmp_path / "other.key"
    other_keys.write_text("o" * 32)
    values = {
        "security.signing_key": "k" * 32,
        "store.url": f"sqlite:///{tmp_path}/x.db",
        "security.token_key_files": f"other={other_keys}",
        "gateway.tls_certificate": cert,
        "gateway.tls_key": key,
        "transport.tls_certificate": links.certificate,
        "transport.tls_key": links.key,
        "transport.tls_ca": links.ca,
        "gateway.port": "0",
        "admin.enabled": "false",
    }
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    assert here("migrate", *given, cwd=tmp_path).returncode == 0
    with Running("node", *given, cwd=tmp_path) as node:
        assert node.process.stdout is not None
        assert '"ready": true' in node.process.stdout.readline()
        node.process.send_signal(signal.SIGHUP)
        node.line("certificate of the gateway was read again")
        node.line("certificate of the transport was read again")
        Path(cert).write_text("no certificate")
        node.process.send_signal(signal.SIGHUP)
        node.line("the one before stays")
        other_keys.write_text("p" * 32)
        node.process.send_signal(signal.SIGHUP)
        node.line("keys of client tokens were read again")
        other_keys.write_text("short")
        node.process.send_signal(signal.SIGHUP)
        node.line("those before stay")
        node.process.terminate()
        assert node.end()[0] == 0

"""TLS of the links between nodes: certificates and contexts, and one end of an encrypted connection.

    certificates given   each end shows one that `transport.tls_ca` has signed, and refuses another's
    none given           the acceptor shows one that its process has made for itself (`self_signed.py`)

In both cases the login that follows proves the cluster key *and* names the certificates that were seen (`binding`), as
SCRAM-SHA-256-PLUS does with `tls-server-end-point` (RFC 5929). Somebody in between can end both connections only with a
certificate of their own, and then the two ends do not name the same ones. So a foreign holder of a certificate by the
same CA is no node, and names in certificates need no comparison with addresses, which come from gossip and change.

TLS 1.3 alone: each side has it, and its key exchange is always ephemeral, so that who learns the cluster key later
cannot read what was recorded.

`Channel` works between memory and memory (`ssl.MemoryBIO`). The alternative, the event loop's own TLS, would hand over
after the handshake only: a plain connection then cannot be told from silence, nor be answered why it is refused. The
price is the same: 6 KB there and back take 25 us of CPU of both ends, 24 with uvloop's own TLS and 13 in plain, and a
write carries all frames of a turn of the loop.
"""

import hashlib
import os
import ssl
import tempfile
from typing import Final, NamedTuple

from server.errors import BadSetting
from server.runtime.certificates import shake_hands, stamp
from server.settings import TransportSettings
from server.transport.self_signed import self_signed

BINDING_BYTES: Final = 32
TLS_HANDSHAKE: Final = 0x16
"""The first byte of a TLS connection. That of a plain link is 0: its first frame is short."""
NO_TLS: Final = "it speaks no TLS: an older version, or transport.encryption is off there"
HUNG_UP: Final = "it hung up instead of beginning with TLS: perhaps a version without encryption"
_RECORD_BYTES: Final = 16_384


class Ends(NamedTuple):
    """Contexts of the dialling and of the accepting end, with the certificate (DER) that each of them shows."""

    dialling: ssl.SSLContext
    accepting: ssl.SSLContext
    dialling_shows: bytes
    accepting_shows: bytes


class Encryption:
    """The certificates of this node's links. Raises `BadSetting` where those given are no good."""

    def __init__(self, settings: TransportSettings) -> None:
        self._settings = settings
        self._files = [name for name in (settings.tls_certificate, settings.tls_key, settings.tls_ca) if name]
        self._made_of = stamp(self._files)
        self.ends = _given(settings) if self._files else _made()
        self.complaint = ""
        """The complaint of other nodes about the certificate, when it was last looked at; empty while there is none."""

    def reload(self, changed_only: bool) -> bool:
        """Read given certificates again, for connections that are made from now on. True: they are in use;
        `changed_only`: and the files are others than before. Raises `BadSetting`; those from before stay then."""
        if not self._files:
            return False
        made_of = stamp(self._files)
        if changed_only and made_of == self._made_of:
            found, name = _complaint(self.ends), self._settings.tls_certificate
            self.complaint = f"other nodes refuse transport.tls_certificate {name}: {found}" if found else ""
            return False
        self.ends, self._made_of, self.complaint = _given(self._settings), made_of, ""
        return True


class Channel:
    """An end of an encrypted connection: bytes of the socket to bytes of the link and back. Raises `ssl.SSLError`
    where the other end breaks the rules, or is refused."""

    __slots__ = ("_accepting", "_in", "_out", "_shown", "_tls", "established")

    def __init__(self, ends: Ends, *, accepting: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ends.accepting if accepting else ends.dialling
        self._tls = context.wrap_bio(self._in, self._out, server_side=accepting)
        self._accepting = accepting
        self._shown = ends.accepting_shows if accepting else ends.dialling_shows
        self.established = False
        """True once the handshake is through at this end."""

    def shake(self) -> None:
        """Go on with the handshake as far as it goes now."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.established = True

    def receive(self, data: bytes) -> bytes:
        """The part of `data`, from the socket, that is for the link; empty during the handshake."""
        incoming, tls = self._in, self._tls
        incoming.write(data)
        if not self.established:
            self.shake()
            if not self.established:
                return b""
        parts: list[bytes] = []
        try:
            while incoming.pending or tls.pending():
                parts.append(tls.read(_RECORD_BYTES))
        except ssl.SSLWantReadError:  # the rest is part of a record
            pass
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send(self, data: bytes) -> bytes:
        """The bytes for the socket that carry `data` of the link."""
        write = self._tls.write
        done = write(data)  # a record, 16 KiB
        if done < len(data):
            rest = memoryview(data)
            while done < len(data):
                done += write(rest[done:])
        return self._out.read()

    def waiting(self) -> bytes:
        """Bytes of TLS itself for the socket: parts of the handshake, or an alert."""
        return self._out.read()

    def binding(self) -> bytes:
        """A digest of the certificates that both ends have shown; after the handshake."""
        seen = self._tls.getpeercert(True) or b""
        accepting, dialling = (self._shown, seen) if self._accepting else (seen, self._shown)
        digests = [hashlib.sha256(certificate).digest() for certificate in (accepting, dialling)]
        return hashlib.sha256(b"garrison node link" + b"".join(digests)).digest()


def why(error: ssl.SSLError) -> str:
    """The complaint of TLS, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason:
        return f"it refuses this node's certificate: {reason.rpartition('alert ')[2]}"
    if reason in {"wrong version number", "record layer failure", "unexpected message"}:
        return NO_TLS
    return f"TLS: {reason}"


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # see the module's head
    context.verify_mode = ssl.CERT_NONE
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # no session is resumed
    return context


def _made() -> Ends:
    pair = self_signed()
    dialling, accepting = _context(ssl.PROTOCOL_TLS_CLIENT), _context(ssl.PROTOCOL_TLS_SERVER)
    _load(accepting, pair.pem)
    return Ends(dialling, accepting, b"", pair.certificate)


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Give OpenSSL, which takes them from a file only, a key and a certificate; the file is in memory where that can
    be had, and gone at once in any case."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("certificate")
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # only this user may read it
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def _given(settings: TransportSettings) -> Ends:
    certificate, key, ca = settings.tls_certificate or "", settings.tls_key or "", settings.tls_ca or ""
    dialling, accepting = _context(ssl.PROTOCOL_TLS_CLIENT), _context(ssl.PROTOCOL_TLS_SERVER)
    try:
        with open(certificate, encoding="ascii") as file:
            shows = ssl.PEM_cert_to_DER_cert(_first(file.read()))
    except (OSError, ValueError) as error:
        raise BadSetting("transport.tls_certificate", f"cannot read {certificate}: {_short(error)}") from None
    for context in (dialling, accepting):
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise BadSetting("transport.tls_ca", f"cannot read {ca}: {_short(error)}") from None
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            reason = f"{certificate} cannot be used with key {key}: {_short(error)}"
            raise BadSetting("transport.tls_certificate", reason) from None
        context.verify_mode = ssl.CERT_REQUIRED
    ends = Ends(dialling, accepting, shows, shows)
    if found := _complaint(ends):
        raise BadSetting("transport.tls_certificate", f"{certificate} is no good by {ca}: {found}")
    return ends


def _complaint(ends: Ends) -> str:
    """The complaint of others about the given certificate, by a login of this node to itself: expired, of another CA,
    for another use. Empty while there is none."""
    try:
        shake_hands(ends.dialling, ends.accepting)
    except ssl.SSLError as error:
        return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else _short(error)
    return ""


def _first(pem: str) -> str:
    """The first certificate of a file, which is the node's own."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if begin not in pem or end not in pem:
        raise ValueError("no certificate in PEM form")
    return begin + pem.partition(begin)[2].partition(end)[0] + end


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

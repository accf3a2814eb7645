"""Certificate files: replaced while a node runs, or no longer good."""

import contextlib
import os
import ssl
from collections.abc import Iterable

Stamp = tuple[tuple[int, int, int], ...]


def stamp(names: Iterable[str | None]) -> Stamp:
    """A fingerprint of files as far as they are there: it differs once one of them is replaced or written to."""
    found: list[tuple[int, int, int]] = []
    for name in names:
        with contextlib.suppress(OSError):
            about = os.stat(name or "")
            found.append((about.st_ino, about.st_mtime_ns, about.st_size))
    return tuple(found)


def shake_hands(dialling: ssl.SSLContext, accepting: ssl.SSLContext) -> None:
    """Connect both contexts in memory. Raises `ssl.SSLError` where one refuses the other."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [dialling.wrap_bio(back, there), accepting.wrap_bio(there, back, server_side=True)]
    while ends:
        for end in list(ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                ends.remove(end)


def complaint(certificate: str, accepting: ssl.SSLContext) -> str:
    """The complaint of a client that trusts `certificate` in itself, the file that `accepting` shows: its time is over,
    or has not begun, or it is for another use. Empty while there is none."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(certificate)
        shake_hands(client, accepting)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, ssl.SSLError) as error:
        return str(error.strerror or error)
    return ""

"""Small objects beside a picows connection: what stands before its protocol once it is read in sips, its logger, and
the TLS context of a listener."""

import asyncio
import ssl
from typing import Any, Final, Protocol, cast

import structlog

from server.errors import BadSetting
from server.runtime.metrics import Metrics
from server.settings import GatewaySettings

log = structlog.get_logger(__name__)
_SIP_BYTES: Final = 256


class Faulty(Protocol):
    """A connection whose peer may break the protocol."""

    def fault_found(self) -> None:
        """picows is about to close for a frame that breaks the protocol."""
        ...


class Sips(asyncio.BufferedProtocol):
    """Stands between the transport and picows once a connection had to be paused: it is read in
    sips from then on, so that its buffer grows no further and little is handed over at once."""

    __slots__ = ("behind",)

    def __init__(self, protocol: Any) -> None:
        self.behind = protocol

    def get_buffer(self, hint: int) -> memoryview:
        return cast(memoryview, self.behind.get_buffer(hint))[:_SIP_BYTES]

    def buffer_updated(self, count: int) -> None:
        self.behind.buffer_updated(count)

    def eof_received(self) -> Any:
        return self.behind.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self.behind.connection_lost(error)

    def pause_writing(self) -> None:
        self.behind.pause_writing()

    def resume_writing(self) -> None:
        self.behind.resume_writing()


class FrameReports:
    """Stand-in for picows' logger of one connection: a peer's violations are counted, faults of ours logged."""

    __slots__ = ("_connection", "_metrics")

    def __init__(self, metrics: Metrics, connection: Faulty | None) -> None:
        self._metrics = metrics
        self._connection = connection

    def isEnabledFor(self, level: int) -> bool:
        return False

    def log(self, *args: object, **kwargs: object) -> None: ...

    debug = info = warning = log

    def error(self, message: str, *args: object, **kwargs: object) -> None:
        self._metrics.bad_frames_total += 1
        if self._connection is not None:
            self._connection.fault_found()

    def forget(self) -> None:
        """The connection is over. picows keeps this, and the connection picows' transport: that circle ends here."""
        self._connection = None

    def exception(self, message: str, *args: object, **kwargs: object) -> None:
        self._metrics.task_crashes_total += 1
        log.error("connection failed", what=message, exc_info=True)


def tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the configured certificate; None without one. Raises `BadSetting`."""
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        why = f"{settings.tls_certificate} cannot be used with key {settings.tls_key}: {error}"
        raise BadSetting("gateway.tls_certificate", why) from None
    return context

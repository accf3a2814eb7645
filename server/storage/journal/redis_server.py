"""The Redis that keeps journals: how it is reached, whether it will do, and how to read its refusals."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.errors import BadSetting, Unavailable
from server.settings import JournalSettings

log = structlog.get_logger(__name__)

OLDEST_SERVER: Final = (6, 2)
MAX_ID: Final = b"18446744073709551615-18446744073709551615"
"""The highest id of an entry: a stream that has one takes no entry after it."""
NOTE_S: Final = 24 * 3600
"""Seconds that a note lives."""
_TEMPORARY: Final = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,  # also a replica whose master is down
    exceptions.TryAgainError,
)
DEMOTED: Final = (exceptions.ReadOnlyError, exceptions.MasterDownError)
"""Answers of a master that became a replica in an orderly failover, and kept its connections."""
NO_ANSWER: Final = (ValueError, TypeError, AttributeError, LookupError)
"""Errors of the client's parser, besides `InvalidResponse`, for bytes that no Redis would send."""
_TEMPORARY_WORDS: Final = ("MISCONF", "NOREPLICAS", "BUSY ")
"""First words of temporary refusals for which the client has no exception."""


def is_late(error: Exception) -> bool:
    """Whether `error` says that an entry of that id or a higher one is there."""
    text = str(error)
    late = "equal or smaller" in text or "exhausted the last possible ID" in text
    return late and isinstance(error, exceptions.ResponseError)


def is_temporary(error: Exception) -> bool:
    """Whether `error` is a refusal that may end without anybody's changing the settings: no memory, a replica that
    becomes the master again, a disk that is full, a script that runs, a master that starts."""
    return isinstance(error, _TEMPORARY) or str(error).startswith(_TEMPORARY_WORDS)


def connect(settings: JournalSettings) -> tuple[Redis, str]:
    """A client that connects when it is first used, and the address without user and password.
    Raises `BadSetting`."""
    limit = settings.redis_timeout_s
    retry = Retry(NoBackoff(), 1)  # the server may have closed an idle connection; every command may be sent twice
    try:
        client = Redis.from_url(settings.redis_url, socket_connect_timeout=limit, retry=retry)
        pool: Any = client.connection_pool
        how = pool.connection_kwargs
        how["socket_timeout"] = None  # `ask` has the limit: with one of its own the client may lose a cancellation
        how["decode_responses"] = False  # records are no text
        str(how.get("host", "")).encode("idna")
        pool.make_connection()  # making it looks at the options, and opens nothing
    except (ValueError, TypeError, AttributeError, exceptions.RedisError):  # its text may hold a part of the password
        why = "must be redis://host:port/number, rediss://… or unix://…, with options that redis-py knows"
        raise BadSetting("journal.redis_url", why) from None
    where = how.get("path") or f"{how.get('host', 'localhost')}:{how.get('port', 6379)}"
    return client, f"{where}/{how.get('db') or 0}"


def check(about: dict[str, Any], address: str) -> None:
    """Look at the answer to INFO. Raises `BadSetting` for a server that will not do."""
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST_SERVER:
        raise BadSetting("journal.redis_url", f"Redis 6.2 or later is needed, {address} is {version or 'unknown'}")
    policy = str(about.get("maxmemory_policy", "noeviction"))
    if int(about.get("maxmemory", 0)) > 0 and policy.startswith("allkeys"):
        raise BadSetting(
            "journal.redis_url", f"Redis at {address} may drop a journal: its maxmemory-policy is {policy}"
        )
    if not about.get("aof_enabled", 0):
        log.warning("Redis keeps the journal in memory only: set `appendonly yes` there", redis=address)


class RedisLink:
    """Commands to one Redis, each within a time. `address` is told to people: no user, no password in it."""

    def __init__(self, settings: JournalSettings) -> None:
        self._client, self.address = connect(settings)
        self._execute: Callable[..., Any] = self._client.execute_command
        self._timeout_s = settings.redis_timeout_s

    async def ask(self, *command: Any, within_s: float | None = None) -> Any:
        """The answer to one command. Raises `Unavailable` where nobody answers in time, by default
        `redis_timeout_s`, and a `RedisError` for Redis's own refusals, or for an answer that is none of Redis's."""
        try:
            async with asyncio.timeout(within_s or self._timeout_s):
                return await self._execute(*command)
        except exceptions.AuthenticationError:
            raise
        except DEMOTED:  # the next command finds who is the master now, where the address leads to another
            await self.disconnect()
            raise
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:  # OSError: also TimeoutError
            raise Unavailable(f"Redis at {self.address} does not answer: {str(error) or 'in time'}") from None
        except NO_ANSWER as error:
            raise exceptions.InvalidResponse(f"the answer is none of Redis's: {error}") from None

    async def newest(self, key: str) -> bytes | None:
        """The id of the newest entry of a stream; None if it is empty or not there."""
        found: list[tuple[bytes, Any]] = await self.ask("XREVRANGE", key, "+", "-", "COUNT", 1)
        return found[0][0] if found else None

    async def note(self, key: str) -> bool:
        """Leave a note. False where Redis refuses it (it is full); without it, at worst there is a false alarm."""
        with contextlib.suppress(exceptions.ResponseError):
            await self.ask("SET", key, 1, "EX", NOTE_S)
            return True
        return False

    async def disconnect(self) -> None:
        """Close the connections that no command is using; each connects anew when it is next used."""
        with contextlib.suppress(exceptions.RedisError, OSError):
            await self._client.connection_pool.disconnect(inuse_connections=False)

"""The Redis that keeps journals: how it is reached, whether it will do, what its refusals mean."""

import re
from typing import Any, Final

import structlog
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from server.errors import BadSetting
from server.settings import JournalSettings

log = structlog.get_logger(__name__)

OLDEST_SERVER: Final = (6, 2)
_TEMPORARY: Final = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,  # also a replica whose master is down
    exceptions.TryAgainError,
)
DEMOTED: Final = (exceptions.ReadOnlyError, exceptions.MasterDownError)
"""Errors of a master that became a replica in an orderly failover and kept its connections."""
NO_ANSWER: Final = (ValueError, TypeError, AttributeError, LookupError)
"""Errors of the client's parser, besides `InvalidResponse`, for bytes that no Redis would send."""
_TEMPORARY_WORDS: Final = ("MISCONF", "NOREPLICAS", "BUSY ")
"""Codes of temporary errors that the client has no exception for."""


def is_late(error: Exception) -> bool:
    """True if an entry of that id or a higher one is there."""
    text = str(error)
    late = "equal or smaller" in text or "exhausted the last possible ID" in text
    return late and isinstance(error, exceptions.ResponseError)


def is_temporary(error: Exception) -> bool:
    """A refusal that may end without anybody's changing the settings: no memory, a replica that
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
        how["socket_timeout"] = None  # `_ask` has the limit: with one of its own the client may lose a cancellation
        how["decode_responses"] = False  # records are no text
        str(how.get("host", "")).encode("idna")
        pool.make_connection()  # which looks at the options, and opens nothing
    except (ValueError, TypeError, AttributeError, exceptions.RedisError):  # its text may hold a part of the password
        why = "must be redis://host:port/number, rediss://… or unix://…, with options that redis-py knows"
        raise BadSetting("journal.redis_url", why) from None
    where = how.get("path") or f"{how.get('host', 'localhost')}:{how.get('port', 6379)}"
    return client, f"{where}/{how.get('db') or 0}"


def check(about: dict[str, Any], address: str) -> None:
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

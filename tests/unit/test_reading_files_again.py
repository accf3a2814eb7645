"""Certificates and token keys are looked at again and again: a file that cannot be used is told of once."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.cli.node import FILES_LOOK_S, _reload
from server.errors import BadSetting
from server.settings import from_tree

STAYS = "certificate was not read again, the one before stays"


class Certificate:
    spoiled = False

    def reload(self, changed_only: bool = False) -> bool:
        if self.spoiled:
            raise BadSetting("gateway.tls_certificate", "planted")
        return False


@pytest.mark.virtual_time
async def test_a_spoiled_file_is_one_line_until_somebody_asks() -> None:
    certificate, fine = Certificate(), Certificate()
    gateway = SimpleNamespace(use_token_rules=lambda rules: False)
    node: Any = SimpleNamespace(listener=certificate, drivers=SimpleNamespace(transport=fine), gateway=gateway)
    hangup, settings = asyncio.Event(), from_tree({"security": {"signing_key": "k" * 32}})
    with capture_logs() as lines:
        reloading = asyncio.ensure_future(_reload(hangup, settings, [node]))

        async def told_after(looks: int) -> int:
            await asyncio.sleep(looks * FILES_LOOK_S + 1)
            return sum(line["event"] == STAYS for line in lines)

        assert await told_after(2) == 0
        certificate.spoiled = True
        assert await told_after(3) == 1
        hangup.set()
        assert await told_after(3) == 2
        certificate.spoiled = False
        assert await told_after(1) == 2
        certificate.spoiled = True
        assert await told_after(2) == 3
        reloading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reloading

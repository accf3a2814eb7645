"""The laboratory's commands, found by name by `server.cli.app`: a package without `server.lab` has none."""

from collections.abc import Mapping
from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "demo": "server.lab.demo:register",
    "bench": "server.lab.bench.command:register",
    "soak": "server.lab.bench.soak:register",
    "chaos": "server.lab.chaos.command:register",
    "bots": "server.lab.bots:register",
    "audit": "server.lab.audit:register",
}

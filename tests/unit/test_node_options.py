"""The options of `garrison node` mean the same whether they are read the short way or by the command line."""

import pytest

from server.cli import app as program
from server.cli import node as process
from server.cli.node_options import NodeOptions, plain_options

PLAIN = (
    "node",
    "node --config a.toml",
    "node --config=a.toml --name edge-3 --gateway-port 7450 --admin-port=0 --seeds 10.0.0.1:7370,b:1 --app clan:App",
    "node --succeed 7,1 --config ./x=y.toml --name=a=b --set a=1,2 --set [1]",
    "node --store sqlite:////tmp/a.db --set store.flush_interval_s=0.5 --set=app=x:Y --set a.b={} --supervised",
)
NOT_PLAIN = (
    "", "token", "--help", "--version", "node --help", "node -h", "node more", "node --nmae x", "node --name",
    "node --name=", "node --gateway-port x", "node --gateway-port -1", "node --gateway-port 1.5",
    "node --name --config a.toml",
    "node --name a --name b", "node --supervised=yes", "node --no-supervised", "node -- x", "node --set", "node --set=",
    "--config a.toml node",
)  # fmt: skip


@pytest.mark.parametrize("line", PLAIN)
def test_plain_options_are_those_of_the_command_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[NodeOptions] = []
    monkeypatch.setattr(process, "run", lambda options: given.append(options) or 0)
    words = line.split()
    assert program.build(words)(words) == 0
    assert given == [plain_options(words)]
    assert program.run(words) == 0
    assert given == [plain_options(words)] * 2


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_everything_else_is_for_the_command_line(line: str) -> None:
    assert plain_options(line.split()) is None

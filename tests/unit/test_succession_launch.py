"""The launch of an heir with real processes: small programs that stand for the node."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from server.cli.local_cluster import dying_with
from server.cli.node_process import take_in_orphans
from server.errors import BadSetting, CalledOff
from server.runtime.service_manager import ServiceManager
from server.succession.launch import HeirProcess, ServiceHerald, launch
from server.succession.lineage import Descent, Lineage
from server.succession.program import Start

ROOT = Path(__file__).parents[2]
HEIR = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from server.succession.lineage import Lineage, signal_of_parents_death
lineage = Lineage(sys.argv[-1])
lineage.channel.setblocking(True)
told = [open("/proc/self/oom_score_adj").read().strip(), os.environ["GREETING"]]
told += [str(len([n for n in os.listdir("/proc/self/fd") if int(n) > 2]))]
lineage.channel.send(" ".join(told).encode())
if lineage.channel.recv(10) == b"go":
    lineage.take_outputs()
    lineage.kill_predecessor()
    gone = asyncio.run(lineage.take_its_place())
    score = open("/proc/self/oom_score_adj").read().strip()
    print("heir in its place", gone, score, signal_of_parents_death(), os.getppid(), flush=True)
else:
    lineage.tell("nothing came of it")
"""


def a_program(directory: Path, text: str) -> Start:
    script = directory / "garrison"
    script.write_text(text)
    return Start((sys.executable, str(script), "node"), (str(script), "node"), sys.executable, str(directory))


def started(program: Start) -> HeirProcess:
    return launch({**os.environ, "GREETING": "hello"}, program, lambda resident: None)


async def test_an_heir_has_its_channel_and_no_other_descriptor_and_is_the_first_to_be_killed(tmp_path: Path) -> None:
    kept = socket.socket()
    kept.set_inheritable(True)  # closed all the same
    heir = started(a_program(tmp_path, HEIR.format(root=str(ROOT))))
    told = await asyncio.get_running_loop().sock_recv(heir.channel, 100)
    # its channel, both errors, the process of its predecessor, and the directory that it lists
    assert told.decode().split() == ["1000", "hello", "5"]
    heir.channel.shutdown(socket.SHUT_RDWR)  # as it is when this process dies: the heir ends
    while not (why := heir.why()):  # it has a moment each time: the loop, which hears of its end too, has no turn here
        pass
    assert why == "the new program ended (exit code 0): nothing came of it"
    await heir.end()
    kept.close()


@pytest.mark.loops("asyncio", "uvloop")
async def test_the_last_words_of_a_program_that_cannot_be_loaded_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heir = started(a_program(tmp_path, "import not_there_at_all\n"))
    assert await heir.wait() == 1
    assert heir.why() == (
        "the new program ended (exit code 1): ModuleNotFoundError: No module named 'not_there_at_all' "
        f'(File "{tmp_path}/garrison", line 1)'
    )
    assert "Traceback" in capfd.readouterr().err  # the log has all of it
    await heir.end()


async def test_an_heir_that_is_called_off_is_killed_and_reaped(tmp_path: Path) -> None:
    heir = started(a_program(tmp_path, "import time\ntime.sleep(60)\n"))
    await heir.end()
    assert heir.code == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(heir.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait


async def test_a_launch_without_room_or_program_starts_nothing_and_leaves_no_descriptor(tmp_path: Path) -> None:
    def full(resident: int) -> None:
        raise CalledOff("no room")

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CalledOff, match="no room"):
        launch({}, a_program(tmp_path, ""), full)
    program = replace(a_program(tmp_path, "#!/not/there/python\n"), by_kernel=True)
    (tmp_path / "garrison").chmod(0o755)
    with pytest.raises(CalledOff, match="the interpreter that its first line names"):
        started(program)
    (tmp_path / "garrison").unlink()
    with pytest.raises(CalledOff, match="is not there any more"):
        started(program)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_service_manager_hears_of_the_heir_before_go_and_of_its_end(tmp_path: Path) -> None:
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    heard: list[str] = []

    def read() -> None:
        data, descriptors, _, _ = socket.recv_fds(systemd, 4096, 4)
        heard.append(data.decode().split("\n")[0])
        for descriptor in descriptors:
            os.close(descriptor)

    asyncio.get_running_loop().add_reader(systemd, read)
    program = a_program(tmp_path, "import time\ntime.sleep(60)\n")
    heir = launch({**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}, program, lambda resident: None)
    herald = ServiceHerald(ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")}))
    await herald.goes_over(heir.pid)
    assert heard == ["RELOADING=1", f"MAINPID={heir.pid}", "BARRIER=1"]
    await herald.called_off()
    await heir.end()
    assert heard[3:5] == [f"MAINPID={os.getpid()}", "BARRIER=1"]
    read()
    assert heard[5:] == ["READY=1"]
    asyncio.get_running_loop().remove_reader(systemd)
    systemd.close()


def own_oom_score() -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


PREDECESSOR = """
import asyncio, os, sys
sys.path.insert(0, {root!r})
from server.succession.launch import launch
from server.succession.program import Start
async def main():
    start = Start((sys.executable, {heir!r}, "node"), ({heir!r}, "node"), sys.executable, {directory!r})
    heir = launch({{**os.environ, "GREETING": "x"}}, start, lambda resident: None)
    await asyncio.get_running_loop().sock_recv(heir.channel, 100)
    print("heir", heir.pid, flush=True)
    heir.channel.send(b"go")
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_an_heir_kills_its_predecessor_after_go_and_takes_its_place_with_the_parent(tmp_path: Path) -> None:
    take_in_orphans()
    a_program(tmp_path, HEIR.format(root=str(ROOT)))
    text = PREDECESSOR.format(root=str(ROOT), heir=str(tmp_path / "garrison"), directory=str(tmp_path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", text, stdout=asyncio.subprocess.PIPE, preexec_fn=dying_with(signal.SIGUSR1)
    )
    assert process.stdout is not None
    lines = (await process.stdout.read()).decode().splitlines()  # the heir has the same output, and has ended too
    assert lines[-1] == f"heir in its place True {own_oom_score()} {signal.SIGUSR1:d} {os.getpid()}"
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("text", ["", "7", "a:b:c:d:e", "1:2:3:4:-5", "900:901:1:1:0", f"900:901:{os.getppid()}:1:0"])
def test_a_flag_that_no_predecessor_gave_is_refused(text: str) -> None:
    with pytest.raises((BadSetting, CalledOff)):
        Lineage(text)


def test_a_descent_is_read_as_it_was_written() -> None:
    descent = Descent(5, 6, 7, 8, 15)
    assert Descent.parse(descent.text()) == descent

"""A network of this process's own: each node in a network namespace, joined by a bridge.

    this process's namespace   bridge garrison0, 10.77.0.254: the parent and its bots
    one for each node          eth0 on the bridge, 10.77.0.1, 10.77.0.2, …

Namespaces have no names: each lives as long as a process in it or a file descriptor of it, so that
nothing is left behind however this process ends. Nothing of the machine's own network is
touched. Needs Linux, `ip` and `iptables`, and either root or a kernel that lets users have
namespaces of their own.

Packets are dropped where they come in, so that the sender notices nothing. A node that is cut off
from other nodes still reaches its clients and, over files, its store.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from server.cli.local_cluster import NodePlace
from server.errors import Unavailable

NET: Final = "10.77.0"
BRIDGE: Final = "garrison0"
PARENT: Final = 254
GATEWAY, ADMIN, GOSSIP, TRANSPORT = 7350, 7360, 7370, 7380
COMMAND_TIMEOUT_S: Final = 20.0
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """Makes itself around this process, which must have one thread only, and cannot be left again.
    `places` are for nodes. Raises `Unavailable` with the reason where that is not possible."""

    def __init__(self, nodes: int) -> None:
        for program in ("ip", "iptables"):
            if shutil.which(program, path=_PATH) is None:
                raise Unavailable(f"no program {program}")
        _enter()
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY)
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{NET}.{PARENT}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        self._namespaces = [_namespace() for _ in range(nodes)]
        for index in range(nodes):
            self._join(index)

    @property
    def places(self) -> list[NodePlace]:
        """Addresses and namespaces in which nodes may live."""
        return [
            NodePlace(_address(index), GATEWAY, ADMIN, GOSSIP, TRANSPORT, namespace)
            for index, namespace in enumerate(self._namespaces)
        ]

    def cut(self, index: int, others: Collection[int], *, both_ways: bool = True) -> None:
        """From now on nothing of `others` reaches node `index`, nor, if `both_ways`, the reverse."""
        for other in sorted(others):
            self._drop(index, other)
            if both_ways:
                self._drop(other, index)

    def lose(self, indices: Sequence[int], share: float) -> None:
        """Drop this share of the packets that each of these nodes gets from another one."""
        for index in indices:
            for other in indices:
                if other != index:
                    self._drop(index, other, "-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}")

    def heal(self) -> None:
        """Every packet arrives again."""
        for index in range(len(self._namespaces)):
            _run("iptables", "-F", "INPUT", namespace=self._namespaces[index])

    def _drop(self, index: int, other: int, *match: str) -> None:
        rule = ("-A", "INPUT", "-s", _address(other), *match, "-j", "DROP")
        _run("iptables", *rule, namespace=self._namespaces[index])

    def _join(self, index: int) -> None:
        namespace, port = self._namespaces[index], f"node{index}"
        here = f"/proc/{os.getpid()}/fd/{self._own}"
        inside = ("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", here)
        _run(*inside, namespace=namespace)
        _run("ip", "link", "set", port, "master", BRIDGE, "up")
        _run("ip", "addr", "add", f"{_address(index)}/24", "dev", "eth0", namespace=namespace)
        _run("ip", "link", "set", "eth0", "up", namespace=namespace)
        _run("ip", "link", "set", "lo", "up", namespace=namespace)
        _run("iptables", "-S", "INPUT", namespace=namespace)  # whether it works at all


def _address(index: int) -> str:
    return f"{NET}.{index + 1}"


_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _enter() -> None:
    """Put this process into a network namespace of its own; without root, into a user namespace first.
    Raises `Unavailable`."""
    user, group = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNET if user == 0 else _CLONE_NEWUSER | _CLONE_NEWNET
    if _libc.unshare(flags):
        raise Unavailable(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    if user:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        except OSError as error:
            raise Unavailable(f"no user namespace: {error.strerror}") from None


def _namespace() -> int:
    """A file descriptor of a new network namespace."""
    found: list[int] = []

    def make() -> None:
        if not _libc.unshare(_CLONE_NEWNET):  # this thread's only
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not found:
        raise Unavailable("no network namespace for a node")
    return found[0]


def _run(*command: str, namespace: int | None = None) -> None:
    """Run `command`, in that namespace if there is one. Raises `Unavailable` with what it said."""

    def begin() -> None:
        if namespace is not None and _libc.setns(namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
            preexec_fn=begin,
            env={**os.environ, "PATH": _PATH},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def why_not(nodes: int) -> str:
    """Why there can be no such network here; empty if there can. Tried in another process."""
    command = (sys.executable, "-m", "server.lab.chaos.network", str(nodes))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip().rpartition("\n")[2] or "no network namespaces")


def _main() -> None:
    try:
        Network(int(sys.argv[1]))
    except Unavailable as error:
        sys.exit(error.message)


if __name__ == "__main__":
    _main()

"""The command that starts this program once more, as it is installed now. Pure but for looks at files.

A process knows how it was started; what it must not do is to name what it *was*: the heir of a node comes from what
stands at the same names now, upgraded code and perhaps another version of Python. So

    links are not followed       `/opt/garrison/current` may point elsewhere by now
    a script is run itself       where the kernel had started it: its first line names the interpreter of now
    the directory is named       as `$PWD` has it, where that is where this process was started
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from server.errors import CalledOff

FLAG: Final = "--succeed"
_HEAD_BYTES: Final = 1024
"""Bytes of a script in which an installer may have named the interpreter, be it after a line for a shell."""


class Program(msgspec.Struct, frozen=True):
    """A program to be executed: `arguments` with its own path first, `directory` to start it in."""

    arguments: tuple[str, ...]
    directory: str
    environment: dict[str, str]


class Start(msgspec.Struct, frozen=True):
    """The way in which a process was started: its whole command line, the arguments of its program (with its own name
    first), the interpreter, and the directory with the name that it had. `by_kernel`: a script was executed
    itself, and its first line has led to the interpreter."""

    whole: tuple[str, ...]
    own: tuple[str, ...]
    interpreter: str
    directory: str
    by_kernel: bool = False

    def again(self, environment: Mapping[str, str], more: Sequence[str] = ()) -> Program:
        """The same program as it is installed now, with `more` arguments at the end. Raises `CalledOff` where it cannot
        be told, or is not there any more."""
        arguments = _without_flag(self.own[1:])
        head = list(self.whole[: len(self.whole) - len(self.own) + 1])
        if not arguments or arguments[0] != "node" or len(head) < 2:
            raise CalledOff("this process was not started as `garrison node`: it cannot be started again by itself")
        if head[-2] == "-m":
            program = [self._interpreter(), *head[1:]]
        else:
            script = os.path.join(self.directory, head[-1])
            if not os.path.isfile(script):
                raise CalledOff(f"the program {script} is not there any more")
            itself = self.by_kernel and os.access(script, os.X_OK)
            program = [script] if itself else [self._interpreter(), *head[1:-1], script]
        if not os.path.isdir(self.directory):
            raise CalledOff(f"the directory {self.directory}, in which this process was started, is not there any more")
        return Program((*program, *arguments, *more), self.directory, dict(environment))

    def _interpreter(self) -> str:
        """The interpreter of now: by the same name, or by the one that every installation has."""
        names = [self.interpreter, *(str(Path(self.interpreter).with_name(name)) for name in ("python3", "python"))]
        for name in names:
            if os.access(name, os.X_OK):
                return name
        raise CalledOff(f"the interpreter {self.interpreter} is not there any more")


def own_start() -> Start:
    """The start of this process, as far as it can be told: call it before anything changes the directory."""
    whole, own = tuple(sys.orig_argv), tuple(sys.argv)
    by_kernel = len(whole) == len(own) + 1 and _led_to(own[0], whole[0])
    return Start(whole, own, sys.executable, _named_directory(), by_kernel)


def _named_directory() -> str:
    """The working directory by the name that a shell or a service manager gave it, which may be a link to a release."""
    here, named = os.getcwd(), os.environ.get("PWD", "")
    try:
        return named if os.path.isabs(named) and os.path.samefile(named, here) else here
    except OSError:
        return here


def _led_to(script: str, interpreter: str) -> bool:
    """Whether the first lines of `script` name `interpreter`, as the kernel passes its name on."""
    try:
        with open(script, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(b"#!") and interpreter.encode() in head


def _without_flag(arguments: Sequence[str]) -> list[str]:
    """`arguments` without what a process that is itself an heir was given for its start alone."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == FLAG:
            skip = True
        elif not argument.startswith(f"{FLAG}="):
            kept.append(argument)
    return kept


STARTED: Final = own_start()
"""The start of this process."""

"""Whether there is room for two, by the machine and by control groups of both versions."""

from pathlib import Path

import pytest

from server.errors import CalledOff
from server.succession.room import MIB, check_room

RESIDENT = 200 * MIB
"""An heir of such a process needs 293 MiB."""


def a_system(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8000000 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "groups"


def group(limit: object, used: int, cached: int = 0) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.high": "max\n",
        "memory.current": f"{used}\n",
        "memory.stat": f"anon 5\ninactive_file {cached}\n",
    }


def below(place: str, files: dict[str, str]) -> dict[str, str]:
    return {f"groups/{place}{name}": text for name, text in files.items()}


V2 = {"proc/self/cgroup": "0::/game.slice/node.service\n"}


def test_room_is_enough_where_nothing_bounds_it(tmp_path: Path) -> None:
    check_room(RESIDENT, *a_system(tmp_path, {**V2, **below("game.slice/node.service/", group("max", 5))}))
    check_room(RESIDENT, tmp_path / "nothing", tmp_path / "nothing")


def test_a_full_machine_is_refused_with_the_numbers(tmp_path: Path) -> None:
    meminfo = {"proc/meminfo": f"MemAvailable: {250 * 1024} kB\n"}
    with pytest.raises(CalledOff, match=r"has 200 MiB of its own.*needs about 293 MiB.*this machine leaves 250 MiB"):
        check_room(RESIDENT, *a_system(tmp_path, meminfo))


@pytest.mark.parametrize("place", ["game.slice/node.service/", "game.slice/", ""])
def test_a_limit_of_its_group_or_of_any_around_it_is_refused(place: str, tmp_path: Path) -> None:
    full = below(place, group(512 * MIB, 300 * MIB))
    with pytest.raises(CalledOff, match=r"limit of 512 MiB of its control group leaves 212 MiB"):
        check_room(RESIDENT, *a_system(tmp_path, {**V2, **full}))


def test_the_cache_of_files_counts_as_free(tmp_path: Path) -> None:
    check_room(RESIDENT, *a_system(tmp_path, {**V2, **below("", group(512 * MIB, 300 * MIB, 100 * MIB))}))


def test_a_limit_of_the_first_version_is_refused(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/1\n",
        "groups/memory/docker/1/memory.limit_in_bytes": str(400 * MIB),
        "groups/memory/docker/1/memory.usage_in_bytes": str(200 * MIB),
        "groups/memory/memory.limit_in_bytes": "9223372036854771712",
    }
    with pytest.raises(CalledOff, match="limit of 400 MiB"):
        check_room(RESIDENT, *a_system(tmp_path, files))

"""The traces of a scenario's seeds, played in a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def digests(scenario: str, start: int, hash_seed: str, seeds: int = 1) -> str:
    """A line a seed, from `start` on; `hash_seed` is the process's `PYTHONHASHSEED`."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.sim.sweep",
            f"--scenario={scenario}",
            f"--start={start}",
            f"--seeds={seeds}",
            "--digest",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

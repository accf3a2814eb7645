"""docker-compose.yml: valid for docker, and every path and setting in it is real."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import load

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "GARRISON_SECURITY__CLUSTER_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "GARRISON_SECURITY__SIGNING_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "GARRISON_ADMIN__TOKEN": "for-tests",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def compose_command() -> list[str] | None:
    """The compose client of this machine: docker's plugin, or the older program."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@pytest.mark.docker
def test_docker_finds_the_file_valid() -> None:
    command = compose_command()
    if command is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    done = subprocess.run(
        [*command, "-f", "docker-compose.yml", "config", "-q"],
        cwd=ROOT,
        env={**os.environ, **KEYS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.docker
def test_docker_names_a_missing_key() -> None:
    command = compose_command()
    if command is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    bare = {name: value for name, value in os.environ.items() if name not in KEYS}
    done = subprocess.run(
        [*command, "-f", "docker-compose.yml", "config", "-q"],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "head of docker-compose.yml" in done.stderr


def test_every_path_is_real(compose: dict[str, Any]) -> None:
    paths = []
    for service in compose["services"].values():
        if build := service.get("build"):
            paths += [build["context"], str(Path(build["context"]) / build["dockerfile"])]
        paths += [text.split(":")[0] for text in service.get("volumes", ()) if text.startswith(".")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_images_files_are_real_and_let_through() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text()
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]
    ]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied
    assert [word for word in copied if not (ROOT / word).exists() or word not in allowed] == []


def test_the_nodes_settings_are_valid(compose: dict[str, Any]) -> None:
    names = [name for name in compose["services"] if name.startswith("node-")]
    assert len(names) == 3
    seen = set()
    for name in names:
        environment = {
            key: re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: KEYS[found[1]], value)
            for key, value in compose["services"][name]["environment"].items()
        }
        settings = load(None, environment)
        assert settings.node == name
        address = compose["services"][name]["networks"]["cluster"]["ipv4_address"]
        assert settings.gossip.bind == f"{address}:7370"
        assert settings.gossip.bind in settings.gossip.seeds
        assert settings.transport.host == address
        seen |= {settings.gateway.advertise_url, settings.admin.advertise_url}
        published = {text.split(":")[1] for text in compose["services"][name]["ports"]}
        for url in (settings.gateway.advertise_url, settings.admin.advertise_url):
            assert url is not None
            assert url.rpartition(":")[2] in published
    assert len(seen) == 6


def test_the_crash_journals_are_in_a_redis_that_keeps_them(compose: dict[str, Any]) -> None:
    for name in (name for name in compose["services"] if name.startswith("node-")):
        service = compose["services"][name]
        journal = load(None, {"GARRISON_CLUSTER": "c"} | _journal(service["environment"])).journal
        assert journal.mode == "redis"
        host = journal.redis_url.removeprefix("redis://").partition(":")[0]
        assert service["depends_on"][host]["condition"] == "service_healthy"
        command = compose["services"][host]["command"]
        assert command[command.index("--appendonly") + 1] == "yes"
        assert compose["services"][host]["volumes"] == ["redis:/data"]


def _journal(environment: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key.startswith("GARRISON_JOURNAL__")}


def test_prometheus_scrapes_every_node(compose: dict[str, Any]) -> None:
    scrape = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"][0]
    targets = {target.partition(":")[0] for group in scrape["static_configs"] for target in group["targets"]}
    assert targets == {name for name in compose["services"] if name.startswith("node-")}
    ports = {target.partition(":")[2] for group in scrape["static_configs"] for target in group["targets"]}
    assert ports == {compose["services"]["node-1"]["environment"]["GARRISON_ADMIN__PORT"]}

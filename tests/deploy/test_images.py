"""The container and what compose.yaml starts around it. No image is built here: that takes a Docker daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import worker
from tests.deploy.rendering import DEPLOY
from worker.commands.demo.motions import CHANNELS, LABELS, MODEL_PATH
from worker.config import load_config
from worker.kafka.embedded.runtime import KAFKA_VERSION
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import LIVE_LIMIT_S, WorkerStatus

ROOT = DEPLOY.parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
TIMEOUT_S = 60


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of the Dockerfile, comments and line ends removed."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], " ".join(line.split()[1:])) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    made = instructions()
    return made[max(at for at, (name, _) in enumerate(made) if name == "FROM") :]


def of(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [arguments for each, arguments in stage if each == name]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint has no build for this machine")
    done = subprocess.run([hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_what_is_built_stays_behind() -> None:
    bases = of(instructions(), "FROM")
    assert len(bases) == 2
    assert all(base.startswith("${PYTHON}") for base in bases), "one place pins the base image by its digest"
    assert [each for each in of(last_stage(), "COPY") if not each.startswith("--from=build")] == [
        f"{MODEL_PATH.relative_to(ROOT)} /models/"
    ]
    assert not any("pip" in each for each in of(last_stage(), "RUN"))


def test_it_runs_as_nobody_in_particular_and_hears_signals() -> None:
    stage = last_stage()
    (user,) = of(stage, "USER")
    assert user == "10001:10001"
    for name in ("ENTRYPOINT", "CMD"):
        (arguments,) = of(stage, name)
        assert json.loads(arguments)  # the exec form: no shell keeps signals to itself
    assert [name for name, _ in stage].index("USER") < [name for name, _ in stage].index("ENTRYPOINT")


def test_labels_and_version() -> None:
    (labels,) = of(last_stage(), "LABEL")
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == {
        "title", "description", "version", "revision", "licenses",
    }  # fmt: skip
    assert f"VERSION={worker.__version__}" in of(last_stage(), "ARG")
    assert f"rnn-stream-worker:{worker.__version__} " in DOCKERFILE


def test_the_packages_that_it_names_are_offered() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"\.whl\)\[([\w,]+)\]", DOCKERFILE)
    assert set(named.split(",")) <= set(extras)
    for file in [word for each in of(instructions(), "COPY")[:2] for word in each.split()[:-1]]:
        assert (ROOT / file).exists(), file
        assert f"!{file}" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


def health_command(port: int) -> list[str]:
    """What Docker runs, for a worker on another port."""
    (check,) = of(instructions(), "HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    assert f"--start-period={LIVE_LIMIT_S:.0f}s" in options
    words = [re.sub(r"\b9100\b", str(port), word) for word in json.loads(command)]
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


def status_of(port: int) -> int:
    done = subprocess.run(health_command(port), capture_output=True, timeout=TIMEOUT_S, check=False)
    return done.returncode


def test_the_health_check_says_what_livez_says() -> None:
    now_s = 0.0
    server = ProbeServer("127.0.0.1", 0, Metrics(), WorkerStatus(lambda: now_s))
    try:
        assert status_of(server.port) == 0
        now_s = LIVE_LIMIT_S + 1
        assert status_of(server.port) == 1
    finally:
        server.close()
    assert status_of(server.port) == 1


def services(image: str) -> dict[str, Any]:
    return {name: each for name, each in COMPOSE["services"].items() if each["image"].startswith(f"{image}:")}


def test_compose_starts_this_version_on_this_machine_only() -> None:
    assert set(services("rnn-stream-worker")) == {"worker", "player"}
    for each in services("rnn-stream-worker").values():
        assert each["image"] == f"rnn-stream-worker:{worker.__version__}"
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
    assert COMPOSE["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert all(":" in each["image"] and "latest" not in each["image"] for each in COMPOSE["services"].values())


def test_compose_mounts_what_is_there() -> None:
    for name, each in COMPOSE["services"].items():
        for volume in each.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert mode == ["ro"], f"{name}: {volume}"
                assert (DEPLOY / source).exists(), f"{name}: {volume}"
            else:
                assert source in COMPOSE["volumes"]
            assert target.startswith("/")
    build = COMPOSE["services"]["worker"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


def test_compose_waits_for_what_is_healthy() -> None:
    for each in COMPOSE["services"].values():
        for name, condition in each.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][name]


def test_the_worker_of_compose_answers_its_player() -> None:
    config = load_config(DEPLOY / "compose" / "worker.yaml", {"HOSTNAME": COMPOSE["services"]["worker"]["hostname"]})
    assert config.input.features == CHANNELS
    assert tuple(config.model.labels or ()) == LABELS
    assert Path(str(config.model.path)) == Path("/models") / MODEL_PATH.name
    assert config.state.directory in [each.split(":")[1] for each in COMPOSE["services"]["worker"]["volumes"]]
    command = COMPOSE["services"]["player"]["command"]
    assert command[:3] == ["demo", "--play", config.input.topic]
    assert config.kafka.bootstrap_servers in command


def test_prometheus_and_grafana_find_each_other() -> None:
    scraped = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text())
    (job,) = scraped["scrape_configs"]
    config = load_config(DEPLOY / "compose" / "worker.yaml", {"HOSTNAME": "worker-0"})
    assert job["static_configs"] == [{"targets": [f"worker:{config.http.port}"]}]
    (source,) = yaml.safe_load((DEPLOY / "compose/grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "compose/grafana/dashboards/files.yaml").read_text())["providers"]
    mounts = [each.split(":")[1] for each in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts

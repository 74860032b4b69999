"""What is deployed must be what the worker reads: configuration, port, probes, time to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from worker.config import load_config
from worker.member.limits import LoopLimits
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import WorkerStatus

DEPLOY = Path(__file__).parents[2] / "deploy"


def manifests() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def test_the_configuration_in_the_manifest_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(manifests()["ConfigMap"]["data"]["worker.yaml"])
    (container,) = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    environ = {each["name"]: each.get("value", "worker-0") for each in container["env"]}
    config = load_config(file, environ)
    assert config.kafka.instance_id == "worker-0"
    assert config.http.port == container["ports"][0]["containerPort"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {config.state.directory, str(Path(str(config.model.path)).parent)} <= mounts


def test_probes_ask_for_pages_that_are_there() -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    (container,) = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    server = ProbeServer("127.0.0.1", 0, Metrics(), WorkerStatus(lambda: 0.0))
    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            try:
                code = urlopen(
                    f"http://127.0.0.1:{server.port}{container[probe]['httpGet']['path']}", timeout=60
                ).status
            except HTTPError as error:
                code = error.code
            assert code in (200, 503), probe
    finally:
        server.close()


PROCESS_END_S = 5  # for the interpreter and the clients' threads, once the worker has left


def test_a_pod_has_the_time_that_an_orderly_end_may_take() -> None:
    limits = LoopLimits()
    spec = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= limits.stop_s + PROCESS_END_S

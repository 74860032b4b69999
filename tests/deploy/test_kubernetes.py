"""The manifests: Kubernetes takes them, they are as safe as a namespace may demand, and they fit the worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import jsonschema
import kubernetes_validate
import pytest
import yaml

import worker
from tests.deploy.custom_resources import SCHEMAS, schema_of
from tests.deploy.rendering import BASE, DEPLOY, OVERLAYS, Object, kustomize, of_kind, plain_name
from tests.secured import Authority
from worker.assembly.clients import check_clients, client_settings
from worker.commands.demo.motions import CHANNELS, LABELS, MODEL_PATH
from worker.commands.run.command import END_LIMIT_S
from worker.config import load_config
from worker.config.sections import Config
from worker.kafka.embedded.runtime import KAFKA_VERSION
from worker.member.limits import LoopLimits
from worker.web.metrics import Metrics
from worker.web.server import ProbeServer
from worker.web.status import LIVE_LIMIT_S, WorkerStatus

FOLDERS = [BASE, *sorted(each for each in OVERLAYS.iterdir() if each.is_dir())]
OLDEST, NEWEST = "1.27", "1.37"  # OLDEST: the chart's kubeVersion
PROCESS_END_S = 5  # for the interpreter and the clients' threads, once the worker has left
SECRETS = "/secrets/"
WORKLOADS = ("StatefulSet", "Deployment", "Job")


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def made(request: pytest.FixtureRequest, kubectl: Path) -> list[Object]:
    return kustomize(kubectl, request.param)


def pods(made: list[Object]) -> Iterator[Object]:
    """The pod specs of all workloads."""
    return (each["spec"]["template"]["spec"] for each in made if each["kind"] in WORKLOADS)


def containers(made: list[Object]) -> Iterator[Object]:
    return (each for pod in pods(made) for each in [*pod["containers"], *pod.get("initContainers", [])])


def worker_pod(made: list[Object]) -> Object:
    pod: Object = of_kind(made, "StatefulSet")["spec"]["template"]["spec"]
    return pod


def check(each: Object, version: str) -> None:
    """Raise ValidationError for what the API server would refuse, unknown keys included."""
    if (each["apiVersion"], each["kind"]) in SCHEMAS:
        jsonschema.validate(each, schema_of(each))
    else:
        kubernetes_validate.validate(each, version, strict=True)


def settings(made: list[Object], tmp_path: Path) -> Config:
    """What the worker in the pod reads; secrets are files below ``tmp_path``."""
    file = tmp_path / "worker.yaml"
    file.write_text(of_kind(made, "ConfigMap")["data"]["worker.yaml"].replace(SECRETS, f"{tmp_path}/"))
    for secret in (volume["secret"]["secretName"] for volume in worker_pod(made)["volumes"] if "secret" in volume):
        (tmp_path / secret).mkdir()
        for name in ("username", "password"):
            (tmp_path / secret / name).write_text("given")
        Authority(tmp_path / secret, "ca")
    (container,) = worker_pod(made)["containers"]
    return load_config(file, {each["name"]: each.get("value", "worker-0") for each in container["env"]})


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(made: list[Object], version: str) -> None:
    for each in made:
        check(each, version)


def test_a_mistake_is_seen(made: list[Object]) -> None:
    """The checks above can fail: of an unknown key and of a number in quotes."""
    stateful = of_kind(made, "StatefulSet")
    for wrong in ({**stateful["spec"], "replica": 2}, {**stateful["spec"], "replicas": "2"}):
        with pytest.raises(jsonschema.ValidationError):
            check({**stateful, "spec": wrong}, NEWEST)
    for each in (each for each in made if (each["apiVersion"], each["kind"]) in SCHEMAS):
        with pytest.raises(jsonschema.ValidationError):
            check({**each, "spec": {**each["spec"], "unknown": 1}}, NEWEST)


def test_every_object_has_one_name_and_the_recommended_labels(made: list[Object]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in made]
    assert len(names) == len(set(names))
    for each in made:
        labels = each["metadata"]["labels"]
        if labels.get("app.kubernetes.io/name") == "rnn-stream-worker":
            assert labels["app.kubernetes.io/instance"] == "rnn-stream-worker"
            assert labels["app.kubernetes.io/component"] == "worker"
            assert labels["app.kubernetes.io/version"] == worker.__version__


def test_what_selects_pods_selects_the_workers(made: list[Object]) -> None:
    stateful = of_kind(made, "StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"].items()
    selectors = [
        stateful["selector"]["matchLabels"],
        of_kind(made, "Service")["spec"]["selector"],
        of_kind(made, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(made, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(each["labelSelector"]["matchLabels"] for each in worker_pod(made)["topologySpreadConstraints"]),
        *(each["spec"]["selector"]["matchLabels"] for each in made if each["kind"] == "PodMonitor"),
    ]
    assert all(selector.items() <= labels for selector in selectors)
    assert stateful["serviceName"] == of_kind(made, "Service")["metadata"]["name"]
    claimed = {name: text for each in stateful.get("volumeClaimTemplates", []) for name, text in labels_of(each)}
    assert "app.kubernetes.io/version" not in claimed, "a claim template can't be changed by the next version"


def labels_of(each: Object) -> Any:
    return each["metadata"]["labels"].items()


def test_a_restricted_namespace_takes_every_pod(made: list[Object]) -> None:
    """Pod security standard `restricted`, and no token, in pods and in the account."""
    for pod in pods(made):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])
    for container in containers(made):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context.get("readOnlyRootFilesystem") is (True if "rnn-stream-worker" in container["image"] else None)
    assert of_kind(made, "ServiceAccount")["automountServiceAccountToken"] is False


def test_memory_is_what_was_asked_for_and_every_image_has_a_version(made: list[Object]) -> None:
    """A pod that may take more than it has asked for is the first to be killed."""
    for container in containers(made):
        resources = container["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        assert "cpu" in resources["requests"]
        assert "cpu" not in resources["limits"]
        name, _, tag = container["image"].partition(":")
        assert tag == {"rnn-stream-worker": worker.__version__, "apache/kafka": KAFKA_VERSION}[name]


def test_every_mount_has_its_volume_and_the_other_way_round(made: list[Object]) -> None:
    for each in made:
        if each["kind"] not in WORKLOADS:
            continue
        pod = each["spec"]["template"]["spec"]
        volumes = [volume["name"] for volume in pod["volumes"]]
        volumes += [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])]
        mounts = [mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]]
        assert sorted(volumes) == sorted(mounts)
    configs = [volume["configMap"]["name"] for volume in worker_pod(made)["volumes"] if "configMap" in volume]
    assert of_kind(made, "ConfigMap")["metadata"]["name"] in configs
    assert {plain_name(name) for name in configs} <= {"rnn-stream-worker", "rnn-stream-worker-model"}


def test_the_configuration_is_accepted_and_fits_the_pod(made: list[Object], tmp_path: Path) -> None:
    config = settings(made, tmp_path)
    check_clients(client_settings(config))  # options that the clients know
    (container,) = worker_pod(made)["containers"]
    assert config.kafka.instance_id == "worker-0"
    assert config.http.port == container["ports"][0]["containerPort"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in (config.state.directory, str(Path(str(config.model.path)).parent)):
        assert path in mounted or "://" in path or path.startswith("s3:") or path == "/models"
    assert container["args"] == ["run", "-c", "/config/worker.yaml"]


def test_brokers_and_stores_can_be_reached(made: list[Object], tmp_path: Path) -> None:
    """The network policy lets out what the configuration names."""
    config = settings(made, tmp_path)
    (rule,) = of_kind(made, "NetworkPolicy")["spec"]["egress"]
    needed = [int(server.rpartition(":")[2]) for server in str(config.kafka.bootstrap_servers).split(",")] + [53]
    needed += [443] if config.state.directory.startswith("s3:") else []
    for port in needed:
        assert any(each["port"] <= port <= each.get("endPort", each["port"]) for each in rule["ports"]), port


def test_probes_ask_for_pages_that_are_there_and_wait_for_a_start(made: list[Object]) -> None:
    (container,) = worker_pod(made)["containers"]
    server = ProbeServer("127.0.0.1", 0, Metrics(), WorkerStatus(lambda: 0.0))
    try:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert answer(f"http://127.0.0.1:{server.port}{container[probe]['httpGet']['path']}") in (200, 503)
    finally:
        server.close()
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= LIVE_LIMIT_S


def answer(url: str) -> int:
    try:
        with urlopen(url, timeout=60) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


def test_a_pod_has_the_time_that_an_end_may_take(made: list[Object]) -> None:
    limits, pod = LoopLimits(), worker_pod(made)
    assert pod["terminationGracePeriodSeconds"] >= limits.stop_s + PROCESS_END_S
    assert pod["terminationGracePeriodSeconds"] > END_LIMIT_S, "a stop that hangs says where, before it is killed"


def test_nobody_shares_a_checkpoint_that_only_one_can_reach(made: list[Object], tmp_path: Path) -> None:
    """Each pod has a volume of its own that stays when it goes; or all have the same store."""
    stateful, config = of_kind(made, "StatefulSet")["spec"], settings(made, tmp_path)
    if stateful.get("volumeClaimTemplates"):
        assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        assert config.state.directory == "/state"
    else:
        assert config.state.directory.startswith("s3:") or config.state.checkpoint_interval.seconds <= 5


def test_where_a_move_is_dear_a_pod_has_the_time_to_come_back(kubectl: Path, tmp_path: Path) -> None:
    made = kustomize(kubectl, OVERLAYS / "static-pvc")
    settings_of_clients = client_settings(settings(made, tmp_path))
    assert settings_of_clients.session_s >= 2 * worker_pod(made)["terminationGracePeriodSeconds"]
    assert settings_of_clients.session_s > LoopLimits().session_s


def test_keda_takes_workers_away_more_slowly_than_states_move(kubectl: Path, tmp_path: Path) -> None:
    made = kustomize(kubectl, OVERLAYS / "keda")
    config, limits, spec = settings(made, tmp_path), LoopLimits(), of_kind(made, "ScaledObject")["spec"]
    assert "replicas" not in of_kind(made, "StatefulSet")["spec"], "an apply would set the number back"
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    grace_s = worker_pod(made)["terminationGracePeriodSeconds"]
    moved_s = grace_s + limits.session_s + LIVE_LIMIT_S + config.state.checkpoint_interval.seconds
    assert down["stabilizationWindowSeconds"] >= moved_s
    assert spec["minReplicaCount"] >= 1
    (trigger,) = spec["triggers"]
    asked = trigger["metadata"]
    assert asked["bootstrapServers"] == config.kafka.bootstrap_servers
    assert asked["consumerGroup"] == config.kafka.group_id
    assert [asked["topic"]] == list(config.input.topics)
    assert int(asked["lagThreshold"]) > spec["maxReplicaCount"], (
        "a transaction's marker leaves a lag of 1 per partition"
    )
    assert trigger["authenticationRef"]["name"] == of_kind(made, "TriggerAuthentication")["metadata"]["name"]


def test_the_demonstration_plays_what_its_model_was_trained_on(kubectl: Path, tmp_path: Path) -> None:
    made = kustomize(kubectl, OVERLAYS / "single-broker-demo")
    config = settings(made, tmp_path)
    assert config.input.features == CHANNELS
    assert list(config.model.labels or ()) == list(LABELS)
    assert Path(str(config.model.path)).name == MODEL_PATH.name
    (player,) = of_kind(made, "Deployment", "player")["spec"]["template"]["spec"]["containers"]
    assert player["args"][:3] == ["demo", "--play", config.input.topic]
    assert config.kafka.bootstrap_servers in player["args"]
    namespaces = {each["metadata"].get("namespace") for each in made if each["kind"] != "Namespace"}
    assert namespaces == {of_kind(made, "Namespace", "rnn-stream-worker-demo")["metadata"]["name"]}


def test_the_broker_and_its_topics_are_set_up_as_in_compose(kubectl: Path) -> None:
    made = kustomize(kubectl, OVERLAYS / "single-broker-demo")
    (broker,) = of_kind(made, "StatefulSet", "kafka")["spec"]["template"]["spec"]["containers"]
    (topics,) = of_kind(made, "Job", "topics")["spec"]["template"]["spec"]["containers"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services["kafka"]["image"] == broker["image"] == topics["image"]
    own = {each["name"]: each["value"] for each in broker["env"]}
    assert services["kafka"]["environment"] == {name: text for name, text in own.items() if name != "KAFKA_LOG_DIRS"}
    assert services["topics"]["entrypoint"] == topics["command"]
    assert [text.replace("$$", "$") for text in services["topics"]["command"]] == topics["args"]


def test_every_file_of_an_overlay_is_used(made: list[Object]) -> None:
    for folder in FOLDERS:
        text = (folder / "kustomization.yaml").read_text()
        unused = [file.name for file in folder.iterdir() if file.name != "kustomization.yaml" and file.name not in text]
        assert unused == []

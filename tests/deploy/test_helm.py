"""The chart: with its own values it is the base of kustomize, with those beside it an overlay; options; refusals."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import jsonschema
import kubernetes_validate
import pytest
import yaml

import worker
from tests.deploy.custom_resources import SCHEMAS, schema_of
from tests.deploy.rendering import (
    BASE,
    CHART,
    DEPLOY,
    OVERLAYS,
    VALUES,
    Object,
    comparable,
    kustomize,
    objects,
    of_kind,
    run,
    template,
)  # fmt: skip
from worker.__main__ import cli
from worker.config import load_config

SAME = {  # folder of kustomize → files of values
    BASE: (),
    OVERLAYS / "static-pvc": ("static-pvc.yaml",),
    OVERLAYS / "shared-s3": ("shared-s3.yaml",),
    OVERLAYS / "keda": ("shared-s3.yaml", "keda.yaml"),
    OVERLAYS / "monitored": ("monitored.yaml",),
}
NODE = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0]"
EVERYTHING = (
    "podMonitor.enabled=true", "prometheusRule.enabled=true", "dashboards.enabled=true", "keda.enabled=true",
    "podMonitor.labels.team=sensors", "podLabels.team=sensors", "podAnnotations.team=sensors", "priorityClassName=high",
    "nodeSelector.disk=fast", "tolerations[0].key=spot", "tolerations[0].operator=Exists",
    "imagePullSecrets[0].name=registry", "serviceAccount.annotations.role=reader",
    "networkPolicy.ingressFrom[0].podSelector.matchLabels.app=prometheus", f"{NODE}.key=metadata.name",
    f"{NODE}.operator=Exists",
)  # fmt: skip


def given(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def files(*names: str) -> list[str]:
    return [word for name in names for word in ("-f", str(VALUES / name))]


def pod_of(made: list[Object], name: str = "rnn-stream-worker") -> Object:
    pod: Object = of_kind(made, "StatefulSet", name)["spec"]["template"]["spec"]
    return pod


def refusal(helm: Path, *options: str) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        template(helm, *options)
    return str(caught.value.stderr)


def script(name: str) -> ModuleType:
    """A script of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DEPLOY / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", SAME, ids=lambda folder: folder.name)
def test_the_chart_makes_what_kustomize_makes_object_by_object(folder: Path, helm: Path, kubectl: Path) -> None:
    charted = comparable(template(helm, *files(*SAME[folder])))
    layered = comparable(kustomize(kubectl, folder))
    layered.pop("TriggerAuthentication rnn-stream-worker", None)  # of the platform's team: the chart only names it
    assert sorted(charted) == sorted(layered)
    for name in layered:
        assert charted[name] == layered[name], name


def test_a_difference_is_seen(helm: Path, kubectl: Path) -> None:
    other = comparable(template(helm, *given("replicaCount=3", "config.input.topic=others")))
    base = comparable(kustomize(kubectl, BASE))
    assert {name for name in base if other[name] != base[name]} == {
        "StatefulSet rnn-stream-worker", "ConfigMap rnn-stream-worker",
    }  # fmt: skip


def test_helm_finds_nothing_to_say(helm: Path) -> None:
    said = run(helm, "lint", "--strict", str(CHART), *files("shared-s3.yaml", "keda.yaml"))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_with_every_option_kubernetes_takes_every_object(helm: Path) -> None:
    made = objects(run(helm, "template", "prod", str(CHART), *given(*EVERYTHING)))
    kinds = {each["kind"] for each in made}
    assert {"PodMonitor", "ScaledObject", "Pod"} <= kinds
    for each in made:
        if (each["apiVersion"], each["kind"]) in SCHEMAS:
            jsonschema.validate(each, schema_of(each))
        else:
            kubernetes_validate.validate(each, "1.27", strict=True)
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in made} == {"prod"}
    assert all(each["metadata"]["name"].startswith("prod-rnn-stream-worker") for each in made)


@pytest.mark.parametrize(
    ("settings", "volume", "mounted"),
    [
        (["model.source=configMap"], {"configMap": {"name": "rnn-stream-worker-model"}}, True),
        (["model.configMap.name=mine"], {"configMap": {"name": "mine"}}, True),
        (["model.source=image", "model.image.reference=models:7"], {"emptyDir": {}}, True),
        (
            ["model.source=claim", "model.claim.name=models"],
            {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}, True,
        ),
        (["model.source=url", "model.url=s3://models/door.keras"], None, False),
    ],
)  # fmt: skip
def test_where_the_model_comes_from(settings: list[str], volume: Object | None, mounted: bool, helm: Path) -> None:
    made = template(helm, *given(*settings))
    pod = pod_of(made)
    found = [{key: each[key] for key in each if key != "name"} for each in pod["volumes"] if each["name"] == "model"]
    assert found == ([volume] if volume else [])
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert ("/model" in mounts) == mounted
    assert all(mounts[path]["readOnly"] for path in ("/model", "/config") if path in mounts)
    path = yaml.safe_load(of_kind(made, "ConfigMap")["data"]["worker.yaml"])["model"]["path"]
    assert path == ("/model/model.keras" if mounted else "s3://models/door.keras")


def test_a_model_in_an_image_is_copied_by_an_account_without_rights(helm: Path) -> None:
    settings = ["model.source=image", "model.image.reference=models:7", "model.image.path=/door.keras"]
    pod = pod_of(template(helm, *given(*settings)))
    (copy,) = pod["initContainers"]
    assert copy["command"] == ["cp", "/door.keras", "/model/model.keras"]
    assert copy["securityContext"] == pod["containers"][0]["securityContext"]


@pytest.mark.parametrize(
    ("settings", "volume", "claimed"),
    [
        (["state.storage=claimTemplate"], None, True),
        (["state.storage=emptyDir", "state.size=1Gi"], {"emptyDir": {"sizeLimit": "1Gi"}}, False),
        (
            ["state.storage=claim", "state.claimName=shared"],
            {"persistentVolumeClaim": {"claimName": "shared"}}, False,
        ),
        (["state.storage=none", "config.state.directory=s3://b/p"], None, False),
    ],
)  # fmt: skip
def test_where_checkpoints_are(settings: list[str], volume: Object | None, claimed: bool, helm: Path) -> None:
    made = template(helm, *given(*settings))
    spec = of_kind(made, "StatefulSet")["spec"]
    volumes = spec["template"]["spec"]["volumes"]
    found = [{key: each[key] for key in each if key != "name"} for each in volumes if each["name"] == "state"]
    assert found == ([volume] if volume else [])
    assert ("volumeClaimTemplates" in spec) == claimed == ("persistentVolumeClaimRetentionPolicy" in spec)


def test_secrets_are_files_that_only_the_worker_reads(helm: Path) -> None:
    made = template(helm, *given("secretFiles[0].name=login", "secretFiles[0].mountPath=/secrets/login"))
    pod = pod_of(made)
    (volume,) = [each for each in pod["volumes"] if "secret" in each]
    assert volume["secret"] == {"secretName": "login", "defaultMode": 0o440}
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts[volume["name"]] == {"name": volume["name"], "mountPath": "/secrets/login", "readOnly": True}
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]


def test_a_new_configuration_replaces_the_pods(helm: Path) -> None:
    def annotations(*settings: str) -> Any:
        return of_kind(template(helm, *given(*settings)), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]

    assert annotations()["checksum/config"] == annotations("replicaCount=3")["checksum/config"]
    assert annotations()["checksum/config"] != annotations("config.input.topic=others")["checksum/config"]


def test_pods_are_scraped_once(helm: Path) -> None:
    """By a PodMonitor, or by their annotations."""
    for enabled in ("false", "true"):
        made = template(helm, *given(f"podMonitor.enabled={enabled}"))
        annotations = of_kind(made, "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        monitored = any(each["kind"] == "PodMonitor" for each in made)
        assert monitored == (enabled == "true") == ("prometheus.io/scrape" not in annotations)


def test_another_port_is_another_port_everywhere(helm: Path) -> None:
    made = template(helm, *given("config.http.port=8080"))
    assert pod_of(made)["containers"][0]["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert of_kind(made, "Service")["spec"]["ports"][0]["port"] == 8080
    annotations = of_kind(made, "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8080"


def test_an_image_by_its_digest(helm: Path) -> None:
    digest = "sha256:" + "0f" * 32
    made = template(helm, *given("image.repository=registry/worker", "image.tag=1.2.3", f"image.digest={digest}"))
    assert pod_of(made)["containers"][0]["image"] == f"registry/worker:1.2.3@{digest}"


def test_large_numbers_stay_whole_and_null_removes_a_key(helm: Path, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("config: {state: {max_streams: 20000000}, input: {features: sensors}, log: {format: null}}")
    written = of_kind(template(helm, "-f", str(values)), "ConfigMap")["data"]["worker.yaml"]
    (tmp_path / "worker.yaml").write_text(written)
    config = load_config(tmp_path / "worker.yaml", {"POD_NAME": "worker-0"})
    assert config.state.max_streams == 20_000_000
    assert yaml.safe_load(written)["log"] == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["replicas=3"], "replicas"),  # it is replicaCount
        (["config.kafka.groupid=doors"], "groupid"),
        (["config.delivery=twice"], "exactly_once"),
        (["replicaCount=0"], "replicaCount"),
        (["keda.minReplicas=0"], "minReplicas"),
        (["terminationGracePeriodSeconds=30"], "terminationGracePeriodSeconds"),
        (["probes.startupSeconds=30"], "startupSeconds"),
        (["model.source=url"], "model.url: name the file, such as s3://bucket/model.keras#SHA-256"),
        (["model.source=claim"], "model.claim.name: name the PersistentVolumeClaim that holds the model"),
        (["model.source=image"], "model.image.reference: name the image that holds the model"),
        (["state.storage=none"], "config.state.directory: with state.storage none, name a URL"),
        (["state.storage=claim"], "state.claimName: name the PersistentVolumeClaim for checkpoints"),
        (["image.digest=latest"], "image"),
        (["handover.from=rnn-stream-worker"], "handover.from: names this group itself; set config.kafka.group_id"),
    ],
)
def test_what_can_not_be_right_is_refused(settings: list[str], said: str, helm: Path) -> None:
    assert said in refusal(helm, *given(*settings))


def test_the_chart_is_of_this_version(helm: Path) -> None:
    chart = yaml.safe_load(run(helm, "show", "chart", str(CHART)))
    assert (chart["version"], chart["appVersion"]) == (worker.__version__, worker.__version__)


def test_its_test_reads_configuration_and_model_as_the_workers_do(helm: Path) -> None:
    made = objects(run(helm, "template", "rnn-stream-worker", str(CHART)))
    (container,) = of_kind(made, "Pod", "rnn-stream-worker-check")["spec"]["containers"]
    (worker_container,) = pod_of(made)["containers"]
    assert container["args"] == ["check", "-c", "/config/worker.yaml"]
    assert [container[key] for key in ("image", "env", "resources", "securityContext", "volumeMounts")] == [
        worker_container[key] for key in ("image", "env", "resources", "securityContext", "volumeMounts")
    ]
    labels = of_kind(made, "Pod", "rnn-stream-worker-check")["metadata"]["labels"]
    assert not of_kind(made, "Service")["spec"]["selector"].items() <= labels.items(), "the workers' own things meet it"


def test_no_worker_runs_until_its_group_has_taken_over(helm: Path) -> None:
    settings = ["handover.from=blue", "config.kafka.group_id=green", "keda.enabled=true"]
    made = template(helm, *given(*settings))
    assert of_kind(made, "StatefulSet")["spec"]["replicas"] == 0
    assert not any(each["kind"] == "ScaledObject" for each in made)
    job = of_kind(made, "Job", "rnn-stream-worker-handover")
    kubernetes_validate.validate(job, "1.27", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    (worker_container,) = pod_of(made)["containers"]
    assert container["volumeMounts"] == worker_container["volumeMounts"]
    assert container["securityContext"] == worker_container["securityContext"]
    command = cli.get_command(click.Context(cli), container["args"][0])
    assert command is not None
    context = command.make_context("handover", container["args"][1:])
    assert {name: context.params[name] for name in ("old", "new", "wait")} == {
        "old": "blue", "new": "green", "wait": "60s",
    }  # fmt: skip
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert not of_kind(made, "StatefulSet")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_notes_name_what_is_missing(helm: Path, tmp_path: Path) -> None:
    """Helm shows notes only when it installs, and a chart without objects can be installed nowhere: they are rendered
    as an object's text."""
    copy = tmp_path / CHART.name
    copy.mkdir()
    for file in CHART.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(CHART)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    notes = copy / "templates" / "NOTES.txt"
    (copy / "templates" / "notes.yaml").write_text(
        '{{- define "notes" }}\n' + notes.read_text() + '{{- end }}\nnotes: {{ include "notes" . | quote }}\n'
    )

    def said(*settings: str) -> str:
        text = run(helm, "template", "doors", str(copy), "-n", "plant", "-s", "templates/notes.yaml", *given(*settings))
        return str(yaml.safe_load(text)["notes"])

    assert "kubectl -n plant rollout status statefulset/doors-rnn-stream-worker" in said()
    assert "create configmap doors-rnn-stream-worker-model --from-file=model.keras" in said()
    assert "create configmap" not in said("model.configMap.name=mine")
    assert "Checkpoints are gone with a pod" in said("state.storage=emptyDir")
    assert "No worker runs: the group takes over from blue" in said("handover.from=blue")


def test_the_schema_and_the_page_are_those_of_the_values() -> None:
    made = script("helm/write_chart_files.py")
    how = "run .venv/bin/python deploy/helm/write_chart_files.py"
    assert json.loads((CHART / "values.schema.json").read_text()) == made.schema(), how
    assert (CHART / "README.md").read_text() == made.readme(), how


def test_the_alerts_of_kustomize_are_those_of_prometheus() -> None:
    made = script("kubernetes/wrap_alerts.py")
    how = "run .venv/bin/python deploy/kubernetes/wrap_alerts.py"
    assert made.WRAPPED.read_text() == made.wrapped(made.RULES.read_text()), how
    assert yaml.safe_load(made.WRAPPED.read_text())["spec"] == yaml.safe_load(made.RULES.read_text())


def test_alerts_lead_to_the_pages_of_this_company(helm: Path) -> None:
    made = template(helm, *given("prometheusRule.enabled=true", "prometheusRule.pagesUrl=https://wiki/"))
    rules = [rule for group in of_kind(made, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    urls = [rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule]
    assert urls
    assert all(url.startswith("https://wiki/docs/runbook.md#") for url in urls)


def test_every_value_is_described() -> None:
    made = script("helm/write_chart_files.py")
    described = [path for path, _ in made.described((CHART / "values.yaml").read_text())]

    def leaves(value: Any, path: str) -> list[str]:
        if path in described or not isinstance(value, dict) or not value:
            return [path]
        return [leaf for key, each in value.items() for leaf in leaves(each, f"{path}.{key}".lstrip("."))]

    assert leaves(made.read_values(), "") == described


def test_a_package_holds_everything(helm: Path, tmp_path: Path) -> None:
    run(helm, "package", str(CHART), "-d", str(tmp_path))
    with tarfile.open(tmp_path / f"rnn-stream-worker-{worker.__version__}.tgz") as archive:
        names = {Path(name).relative_to("rnn-stream-worker") for name in archive.getnames()}
    assert {Path("Chart.yaml"), Path("values.schema.json"), Path("README.md"), Path("templates/NOTES.txt")} <= names
    assert {Path("files/rnn-stream-worker.json"), Path("files/rnn-stream-worker.rules.yaml")} <= names

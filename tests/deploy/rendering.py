"""What Helm and kustomize make of deploy/, as objects; and the same objects in one form, to be compared."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
BASE = DEPLOY / "kubernetes" / "base"
CHART = DEPLOY / "helm" / "rnn-stream-worker"
VALUES = DEPLOY / "helm" / "values"
NAME = "rnn-stream-worker"
TIMEOUT_S = 120
OF_HELM = ("app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/config")  # labels and annotations of its own
HASHED = re.compile(rf"^({NAME})-[2456789bcdfghkmt]{{10}}$")  # how kustomize names a ConfigMap with this content
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast

Object = dict[str, Any]


def kustomize(kubectl: Path, folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    return objects(run(kubectl, "kustomize", str(folder)))


def template(helm: Path, *options: str, release: str = NAME) -> list[Object]:
    """The objects of the chart, without its tests."""
    return objects(run(helm, "template", release, str(CHART), "--skip-tests", *options))


def run(program: Path, *arguments: str) -> str:
    """What it prints. Raises CalledProcessError, with what it says on standard error as a note."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, [program.name, *arguments], done.stdout, done.stderr)
        error.add_note(done.stderr)
        raise error
    return done.stdout


def objects(text: str) -> list[Object]:
    """The objects of a stream of documents."""
    return [each for each in yaml.load_all(text, LOADER) if each]


def of_kind(made: list[Object], kind: str, name: str = NAME) -> Object:
    """The one object of this kind and name."""
    (found,) = [each for each in made if each["kind"] == kind and plain_name(each["metadata"]["name"]) == name]
    return found


def plain_name(name: str) -> str:
    """Without the checksum that kustomize adds."""
    return HASHED.sub(r"\1", name)


def comparable(made: list[Object]) -> dict[str, Any]:
    """By kind and name; without what only one of the two tools adds, lists of named things in one order."""
    return {f"{each['kind']} {plain_name(each['metadata']['name'])}": _plain(each) for each in made}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _text(key, _plain(each)) for key, each in value.items() if key not in OF_HELM}
    if isinstance(value, list):
        items = [_plain(each) for each in value]
        named = all(isinstance(each, dict) for each in items)  # containers, volumes; the order of words is theirs
        return sorted(items, key=lambda each: json.dumps(each, sort_keys=True)) if named else items
    return plain_name(value) if isinstance(value, str) else value


def _text(key: str, value: Any) -> Any:
    """Files in ConfigMaps are compared by what they say."""
    return json.loads(value) if key.endswith(".json") else yaml.safe_load(value) if key == "worker.yaml" else value

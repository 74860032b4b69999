"""Every configuration on the page about connecting is taken by the clients, and its table is what the worker says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.secured import Authority
from worker.assembly.clients import client_settings
from worker.config import load_config
from worker.kafka.opening import refused_clients
from worker.kafka.refusals import Reason, Refusal

PAGE = (Path(__file__).parents[2] / "docs" / "connecting.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
REST: dict[str, Any] = {
    "input": {"topic": "readings", "features": ["x"]},
    "output": {"topic": "probabilities"},
    "model": {"path": "model.keras"},
}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certs").mkdir()
    authority = Authority(tmp_path / "certs", "ca")
    authority.issue("worker", "worker", password="secret")
    secrets = dict.fromkeys(["KAFKA_USERNAME", "KAFKA_PASSWORD", "KAFKA_KEY_PASSWORD"], "secret")
    Path("worker.yaml").write_text(yaml.safe_dump({**REST, **yaml.safe_load(block)}))
    assert refused_clients(client_settings(load_config(Path("worker.yaml"), secrets))) == []


def test_the_page_knows_every_reason() -> None:
    assert len(BLOCKS) > 5
    vague = "unverified", "tls_failed"  # where neither client says more
    for reason in set(get_args(Reason)) - set(vague):
        what = str(Refusal("broker:9092", reason, mechanism="…")).split(": ", 1)[1].split(";")[0]
        assert what in PAGE or what.removeprefix("the broker ") in PAGE, what

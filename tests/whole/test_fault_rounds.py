"""Rounds of the fault harness that every change must stand: one of each in the tests, ten by ``make test-deep``."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.depth import DEEP
from tests.faults import cluster  # noqa: F401  it has kinds, too
from tests.faults.faults import KINDS
from tests.faults.plan import CLIENTS, DELIVERIES
from tests.whole.test_fault_harness import harness, left_behind, needs_linux
from worker.kafka.embedded.cluster import NODES

ROUNDS = 10 if DEEP else 1
ROUND_S = 600.0
ON_A_CLUSTER = sorted(name for name, kind in KINDS.items() if kind.nodes == NODES)

pytestmark = [pytest.mark.broker, pytest.mark.deep, needs_linux]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not tmp_path, which is as long as the test's name: the harness opens sockets below it, of 108 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="rounds-") as name:
        yield Path(name)


def played(folder: Path, rounds: int, *more: str) -> str:
    """The report of so many rounds, in which nothing was lost or wrong."""
    page, files = folder / "page.md", folder / "files"
    files.mkdir()
    with harness(files, "--rounds", str(rounds), "--report", str(page), *more) as process:
        said = process.communicate(timeout=ROUND_S * (rounds + 1))[1]
    assert process.returncode == 0, said
    eventually(lambda: left_behind(files) == [])
    return page.read_text()


def test_no_static_member_ends_when_its_broker_is_away_for_longer_than_a_session(folder: Path) -> None:
    """Neither for what librdkafka says then, that another one has its name, nor for any other reason."""
    session = ("--static", "--session", "10") if DEEP else ("--static",)
    away = "broker kill -9, away for longer than a session"
    chosen = ("--client", "confluent", "--delivery", "both", "--fault", away, *session)
    report = played(folder, len(DELIVERIES) * ROUNDS, *chosen)
    assert "No worker ended by itself." in report
    assert re.search(rf"^\| {away} \| {ROUNDS} \| {ROUNDS} \|", report, re.M)


@pytest.mark.parametrize(
    ("client", "delivery"),
    [(client, delivery) for client in CLIENTS for delivery in DELIVERIES] if DEEP else [("confluent", "exactly_once")],
)
def test_a_cluster_of_three_nodes(folder: Path, client: str, delivery: str) -> None:
    kinds = ON_A_CLUSTER if DEEP else ["kill -9 of the group's coordinator"]
    named = [word for kind in kinds for word in ("--fault", kind)]
    chosen = ("--cluster", str(NODES), "--client", client, "--delivery", delivery)
    report = played(folder, ROUNDS * len(kinds), *chosen, *named)
    assert "Nothing lost, nothing wrong" in report

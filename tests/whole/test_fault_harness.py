"""The fault harness itself: its judge finds what is wrong, its plan follows the seed, a short run ends well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import eventually
from tests.faults import judge, report
from tests.faults.plan import Combination, Deck, combinations, legs, share
from tests.faults.reference import LABELS, Reference, cut
from tests.faults.topics import Row
from tests.sequences import make_log, save_model

ROOT = Path(__file__).parents[2]
TOPIC = "readings"
PARTITIONS = 2
WAIT_S = 600.0


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    every = save_model(tmp_path_factory.mktemp("model") / "model.keras")
    return Reference(cut(make_log(400, 8), 300), every)


def records(reference: Reference) -> list[Row]:
    """The log as it lies in the input topic: streams by turns in partitions."""
    rows, ends = [], defaultdict[int, int](int)
    for key, value in zip(reference.log.keys, reference.log.values, strict=True):
        number = int(key[-1:]) % PARTITIONS
        rows.append(Row(number, ends[number], key, value))
        ends[number] += 1
    return rows


def right_outputs(reference: Reference) -> list[dict[str, Any]]:
    """What an undisturbed worker writes, in the log's order."""
    outputs = []
    for index, row in enumerate(records(reference)):
        probabilities = reference.answers[0][index].tolist()
        label = LABELS[int(np.argmax(probabilities))]
        source = {"topic": TOPIC, "partition": row.partition, "offset": row.offset}
        more = {"probabilities": probabilities, "label": label, "origin": "live", "model": "0" * 12, "source": source}
        outputs.append(reference.fields(index) | more)
    return outputs


def judged(reference: Reference, outputs: list[dict[str, Any]], repeats_allowed: bool = True) -> judge.Verdict:
    rows = [
        Row(0, offset, output.get("key", output["stream"]).encode(), json.dumps(output).encode())
        for offset, output in enumerate(outputs)
    ]
    verdict = judge.Verdict()
    place_of = judge.placed(records(reference), reference)
    judge.check_outputs(verdict, rows, place_of, reference, TOPIC, repeats_allowed)
    return verdict


def swap(outputs: list[dict[str, Any]]) -> None:
    """The last two of one stream change places."""
    first, second = [at for at, output in enumerate(outputs) if output["stream"] == outputs[-1]["stream"]][-2:]
    outputs[first], outputs[second] = outputs[second], outputs[first]


def shifted(output: dict[str, Any], by: float) -> dict[str, Any]:
    return output | {"probabilities": [value + by for value in output["probabilities"]]}


TAMPERED: list[tuple[Callable[[list[dict[str, Any]]], Any], set[str]]] = [
    (lambda outputs: None, set()),
    (lambda outputs: outputs.pop(100), {"lost"}),
    (swap, {"order"}),
    (lambda outputs: outputs.append(outputs[-1] | {"origin": "restored"}), set()),
    (lambda outputs: outputs.append(shifted(outputs[-1], 1e-6)), {"unequal repeat"}),
    (lambda outputs: outputs.append(outputs[-1] | {"model": "1" * 12}), {"unequal repeat"}),
    (lambda outputs: outputs.insert(7, shifted(outputs.pop(7), 2e-4)), {"wrong"}),
    (lambda outputs: outputs.insert(7, shifted(outputs.pop(7), float("nan"))), {"wrong"}),
    *[
        (lambda outputs, change=change: outputs[60].update(change), {"wrong"})
        for change in ({"step": 77}, {"reset": "idle"}, {"label": "d"}, {"sequence": "s"}, {"final": None}, {"time": 0})
    ],
    (lambda outputs: outputs[60].update(key="device-009"), {"wrong", "lost"}),
    (lambda outputs: outputs[60].update(source={"topic": TOPIC, "partition": 0, "offset": 9999}), {"wrong", "lost"}),
    (lambda outputs: outputs[60]["source"].update(topic="other"), {"wrong", "lost"}),
]


@pytest.mark.parametrize(("tamper", "found"), TAMPERED)
def test_the_judge_finds_what_is_wrong_with_outputs(
    reference: Reference, tamper: Callable[[list[dict[str, Any]]], Any], found: set[str]
) -> None:
    outputs = right_outputs(reference)
    tamper(outputs)
    assert {violation.kind for violation in judged(reference, outputs).violations} == found


def test_in_exactly_once_an_equal_repeat_is_one_too_many(reference: Reference) -> None:
    outputs = right_outputs(reference)
    verdict = judged(reference, [*outputs, outputs[-1]], repeats_allowed=False)
    assert ([violation.kind for violation in verdict.violations], verdict.repeats) == (["repeat"], 1)


def test_a_load_that_lost_or_repeated_events_is_not_judged(reference: Reference) -> None:
    rows = records(reference)
    again = rows[-1]._replace(offset=9999)
    for wrong in (rows[:-1], [*rows[:-2], again]):
        with pytest.raises(AssertionError, match="the load"):
            judge.placed(wrong, reference)


def write_states(folder: Path, reference: Reference) -> dict[int, int]:
    """Checkpoints of all partitions, by plain h5py; the ends of the log."""
    ends = {number: sum(row.partition == number for row in records(reference)) for number in range(PARTITIONS)}
    for number, end in ends.items():
        keys = sorted(key for key in reference.states if int(key[-1]) % PARTITIONS == number)
        (folder / str(number)).mkdir(parents=True)
        with h5py.File(folder / str(number) / f"{end:020d}.h5", "w") as file:
            file["keys"] = [key.encode() for key in keys]
            file["steps"] = [reference.states[key].steps for key in keys]
            file["states/first/h"] = np.array([reference.states[key].lstm_h for key in keys])
            file["states/first/c"] = np.array([reference.states[key].lstm_c for key in keys])
            file["states/second/h"] = np.array([reference.states[key].gru_h for key in keys])
    return ends


@pytest.mark.parametrize(
    ("dataset", "by", "found"),
    [
        (None, 0, set()),
        ("states/first/h", 2e-5, {"state"}),
        ("states/first/c", 2e-5, {"state"}),
        ("states/second/h", np.nan, {"state"}),
        ("steps", 1, {"state"}),
        ("keys", 0, {"state"}),
    ],
)
def test_the_judge_finds_what_is_wrong_with_states(
    reference: Reference, tmp_path: Path, dataset: str | None, by: float, found: set[str]
) -> None:
    ends = write_states(tmp_path, reference)
    if dataset is not None:
        with h5py.File(tmp_path / "1" / f"{ends[1]:020d}.h5", "r+") as file:
            file[dataset][0] = b"device-999" if dataset == "keys" else file[dataset][0] + by
    verdict = judge.Verdict()
    judge.check_states(verdict, [tmp_path], ends, reference)
    assert {violation.kind for violation in verdict.violations} == found


def test_the_judge_misses_checkpoints_and_commits(reference: Reference, tmp_path: Path) -> None:
    ends = write_states(tmp_path, reference)
    verdict = judge.Verdict()
    judge.check_states(verdict, [tmp_path], {**ends, 1: ends[1] + 1}, reference)
    judge.check_commits(verdict, {0: ends[0], 1: ends[1] - 1}, ends)
    assert [violation.kind for violation in verdict.violations] == ["checkpoint", "state", "commit"]


def test_the_seed_decides() -> None:
    among = combinations("both", "both")
    assert (len(among), share(10, among)) == (4, [3, 3, 2, 2])
    plans = [legs(among[0], 37, seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    assert [plan.rounds for plan in plans[0]] == [10, 10, 10, 7]
    assert {(plan.static, plan.folders) for plan in plans[0]} == {
        (static, folders) for static in (True, False) for folders in ("shared", "own")
    }
    kinds = [f"fault {number}" for number in range(12)]
    decks = [Deck(kinds, Combination("confluent", "at_least_once"), 5) for _ in range(2)]
    drawn = [[deck.draw(set(kinds)) for _ in range(24)] for deck in decks]
    assert drawn[0] == drawn[1]
    assert sorted(drawn[0][:12]) == sorted(drawn[0][12:]) == sorted(kinds)
    assert decks[0].draw({"fault 3"}) == "fault 3"


def test_the_report_takes_its_place_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.place(page, "new\n")
    report.place(page, "newer\n")
    assert page.read_text() == f"before\n\n{report.BEGIN}\nnewer\n{report.END}\n\nafter\n"


def harness(folder: Path, *more: str) -> subprocess.Popen[str]:
    """The harness as a process of its own, all its files below ``folder``."""
    command = [sys.executable, "-m", "tests.faults", "--client", "confluent", "--delivery", "at_least_once", *more]
    environment = os.environ | {"TMPDIR": str(folder)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def left_behind(folder: Path) -> list[str]:
    """Files below the folder, and processes that were told to use it."""
    found = [str(path) for path in folder.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={folder}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of living processes, and /proc, are Linux's")


@needs_linux
@pytest.mark.broker
def test_a_short_run(tmp_path: Path) -> None:
    """A worker killed, all checkpoints of a partition deleted: nothing lost, nothing wrong."""
    page, folder = tmp_path / "page.md", tmp_path / "files"
    folder.mkdir()
    kinds = ("--fault", "kill -9", "--fault", "all checkpoints of a partition deleted")
    with harness(folder, "--rounds", "2", *kinds, "--report", str(page)) as process:
        said = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 0, said
    assert re.search(r"^\| lost \| 0 \|$", page.read_text(), re.M), page.read_text()
    assert re.search(r"^\| kill -9 \| 1 \|", page.read_text(), re.M)
    eventually(lambda: left_behind(folder) == [])


@needs_linux
@pytest.mark.broker
def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    with harness(tmp_path, "--rounds", "9") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("leg 1"):
                process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 130
    eventually(lambda: left_behind(tmp_path) == [])

"""The independent check: what lies in the topics, in the checkpoints and in the group, against the reference.

Pure but for reading checkpoint files with plain h5py: rows in, violations and counts out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.faults.reference import LABELS, Reference
from tests.faults.topics import Row

PROBABILITY_TOLERANCE = 1e-4
STATE_TOLERANCE = 1e-5
SHOWN = 5  # violations of one kind that are told one by one


@dataclass(slots=True)
class Violation:
    """``event``: index in the log, by which the round is found; -1 where it belongs to none."""

    kind: str
    text: str
    event: int = -1


@dataclass(slots=True)
class Verdict:
    """What a check has found."""

    events: int = 0
    outputs: int = 0
    repeats: int = 0
    lost: int = 0
    wrong: int = 0
    states: int = 0
    probability_difference: float = 0.0
    state_difference: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def say(self, kind: str, text: str, event: int = -1) -> None:
        self.violations.append(Violation(kind, text, event))


def placed(source: Iterable[Row], reference: Reference) -> dict[tuple[int, int], int]:
    """(partition, offset) → event. Asserts that the load itself is right: each event once, in order per stream."""
    place_of = {(row.partition, row.offset): reference.index_of[row.value or b""] for row in source}
    times = Counter(place_of.values())
    missing = len(reference.log.keys) - len(times)
    again = times.total() - len(times)
    assert missing == again == 0, f"the load has lost {missing} events and repeated {again}"
    last: dict[bytes, int] = {}
    for _, index in sorted(place_of.items()):
        key = reference.log.keys[index]
        assert last.get(key, -1) < index, "the load has changed the order of a stream"
        last[key] = index
    return place_of


def source_of(row: Row) -> tuple[int, int] | None:
    """(partition, offset) of the record that an output answers."""
    try:
        source = json.loads(row.value or b"")["source"]
        return int(source["partition"]), int(source["offset"])
    except (ValueError, KeyError, TypeError):
        return None


def check_outputs(
    verdict: Verdict, rows: Sequence[Row], place_of: Mapping[tuple[int, int], int], reference: Reference, topic: str,
    repeats_allowed: bool,
) -> None:  # fmt: skip
    """Nothing lost, everything right, per stream in order; repeats equal, or none. ``rows`` in order per partition."""
    verdict.events, verdict.outputs = len(reference.log.keys), len(rows)
    first: dict[int, dict[str, Any]] = {}
    latest: dict[str, int] = {}
    for row in rows:
        output = json.loads(row.value or b"null")
        source = output["source"]
        event = place_of.get((source["partition"], source["offset"]), -1) if source["topic"] == topic else -1
        where = f"output {row.partition}/{row.offset}, source {source}"
        if event < 0 or (row.key or b"") != reference.log.keys[event]:
            verdict.wrong += 1
            verdict.say("wrong", f"{where}: of no event, or under a wrong key: {output}", event)
            continue
        _check_one(verdict, output, event, reference, where)
        if event in first:
            verdict.repeats += 1
            same = {**first[event], "origin": ""} == {**output, "origin": ""}
            if not (same and repeats_allowed):
                kind = "repeat" if same else "unequal repeat"
                verdict.say(kind, f"{where}: stream {output['stream']}, first {first[event]}, then {output}", event)
            continue
        first[event] = output
        if event < latest.get(output["stream"], -1):
            said = f"stream {output['stream']}, after that of event {latest[output['stream']]}"
            verdict.say("order", f"{where}: {said}", event)
        latest[output["stream"]] = event
    _tell_lost(verdict, first, place_of, reference)


def _check_one(verdict: Verdict, output: dict[str, Any], event: int, reference: Reference, where: str) -> None:
    wanted = reference.fields(event)
    probabilities = np.array(output["probabilities"])
    wanted_probabilities = reference.answers[0][event]
    difference = float(np.abs(probabilities - wanted_probabilities).max())
    verdict.probability_difference = float(np.maximum(verdict.probability_difference, difference))
    wrong = {name: (output.get(name), value) for name, value in wanted.items() if output.get(name) != value}
    if output.get("label") != LABELS[int(probabilities.argmax())]:
        wrong["label"] = (output.get("label"), LABELS[int(probabilities.argmax())])
    if not difference <= PROBABILITY_TOLERANCE:
        wrong["probabilities"] = (output["probabilities"], wanted_probabilities.tolist())
    if wrong:
        verdict.wrong += 1
        told = ", ".join(f"{name} is {found}, not {value}" for name, (found, value) in wrong.items())
        verdict.say("wrong", f"{where}, stream {wanted['stream']}, origin {output.get('origin')}: {told}", event)


def _tell_lost(
    verdict: Verdict, first: Mapping[int, object], place_of: Mapping[tuple[int, int], int], reference: Reference
) -> None:
    lost: dict[str, list[tuple[int, tuple[int, int]]]] = defaultdict(list)
    for place, event in place_of.items():
        if event not in first:
            verdict.lost += 1
            lost[reference.log.keys[event].decode()].append((event, place))
    for stream, places in lost.items():
        offsets = [f"{number}/{offset}" for _, (number, offset) in places]
        verdict.say("lost", f"stream {stream}: {len(places)} events without output: {offsets[:SHOWN]} …", places[0][0])


def check_states(verdict: Verdict, folders: Sequence[Path], last: Mapping[int, int], reference: Reference) -> None:
    """The checkpoints at the end of the log hold every stream, as plain layers have it. ``last``: ends by partition.

    ``folders``: of the topic, one or one per worker.
    """
    found: set[str] = set()
    for number, end in last.items():
        names = [folder / str(number) / f"{end:020d}.h5" for folder in folders]
        there = [name for name in names if name.exists()]
        if not there and end:
            newest = sorted(file.name for folder in folders for file in (folder / str(number)).glob("*.h5"))[-1:]
            verdict.say("checkpoint", f"partition {number}: none at the log's end {end}; the newest is {newest}")
        for name in there:
            found |= _check_file(verdict, name, reference)
    if missing := set(reference.states) - found:
        verdict.say("state", f"streams without a state at the end: {sorted(missing)[:SHOWN]}")


def _check_file(verdict: Verdict, name: Path, reference: Reference) -> set[str]:
    with h5py.File(name) as file:
        keys = [key.decode() for key in file["keys"][:]]
        steps = file["steps"][:]
        states = {f"{layer}/{part}": file[f"states/{layer}/{part}"][:] for layer in file["states"]
                  for part in file["states"][layer]}  # fmt: skip
    lstm = next(name.split("/")[0] for name in states if name.endswith("/c"))
    gru = next(name.split("/")[0] for name in states if not name.startswith(f"{lstm}/"))
    for row, key in enumerate(keys):
        wanted = reference.states.get(key)
        if wanted is None:
            verdict.say("state", f"{name}: stream {key} is not in the log")
            continue
        verdict.states += 1
        pairs = ((f"{lstm}/h", wanted.lstm_h), (f"{lstm}/c", wanted.lstm_c), (f"{gru}/h", wanted.gru_h))
        difference = float(np.max([np.abs(states[part][row] - values).max() for part, values in pairs]))
        verdict.state_difference = float(np.maximum(verdict.state_difference, difference))
        if not difference <= STATE_TOLERANCE or steps[row] != wanted.steps:
            said = f"step {steps[row]}, not {wanted.steps}; state differs by {difference:.3g}"
            verdict.say("state", f"{name.parent.name}/{name.name}, stream {key}: {said}")
    return set(keys)


def check_commits(verdict: Verdict, committed: Mapping[int, int], last: Mapping[int, int]) -> None:
    """The group's committed offsets are the ends of the log."""
    for number, end in last.items():
        if committed.get(number) != end:
            verdict.say("commit", f"partition {number}: committed {committed.get(number)}, the log ends at {end}")

"""The results of rounds and legs, kept in a file, so that an interrupted run can resume where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.judge import Verdict, Violation
from tests.faults.plan import LegPlan


@dataclass(slots=True)
class RoundResult:
    """``well_s``: from the beginning of the fault until everything sent so far is answered.

    ``back_s``, ``bare_s``: until the end of the last pause in the outputs, and in what a bare transactional client
    commits beside the workers; None where there is none beside them.
    """

    fault: str
    well_s: float
    back_s: float | None = None
    bare_s: float | None = None


@dataclass(slots=True)
class LegResult:
    """What a leg has come to."""

    plan: LegPlan
    rounds: list[RoundResult] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    restarts: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class Kept:
    """Legs that are finished, by their plans, in a file (None: nowhere)."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._legs: dict[str, Any] = json.loads(file.read_text()) if file is not None and file.exists() else {}

    def find(self, plan: LegPlan) -> LegResult | None:
        """What this very leg came to in an earlier run."""
        found = self._legs.get(repr(plan))
        return None if found is None else _read(plan, found)

    def add(self, result: LegResult) -> None:
        """Write it down."""
        self._legs[repr(result.plan)] = asdict(result)
        if self._file is not None:
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps(self._legs))
            fresh.replace(self._file)


def _read(plan: LegPlan, found: Mapping[str, Any]) -> LegResult:
    verdict = {**found["verdict"], "violations": [Violation(**each) for each in found["verdict"]["violations"]]}
    rounds = [RoundResult(**each) for each in found["rounds"]]
    return LegResult(**{**found, "plan": plan, "rounds": rounds, "verdict": Verdict(**verdict)})

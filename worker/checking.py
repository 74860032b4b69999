"""What ``worker check`` finds out, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from worker.assembly import client_settings, load_model
from worker.config import Config
from worker.errors import ModelRefusedError, WorkerError
from worker.model.building import LayerReport
from worker.model.parity import Parity
from worker.records import StateSpec

# Measured on CPython 3.11 with a million streams and keys of 13 bytes: 121 of columns and dictionary, 62 of key.
OVERHEAD_BYTES = 200
PARITY_SEQUENCES = 8
PARITY_STEPS = 40


@dataclass(slots=True)
class Report:
    """``ok``: the model streams and the proof holds. Everything else says why, or what it costs."""

    model: str
    sha256: str | None = None
    tolerance: float = 0.0
    max_streams: int = 0
    bytes_per_stream: int = 0
    layers: list[LayerReport] = field(default_factory=list)
    states: list[StateSpec] = field(default_factory=list)
    parity: Parity | None = None
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        parity = None if self.parity is None else {**asdict(self.parity), "tolerance": self.tolerance}
        return {
            "ok": self.ok,
            "model": self.model,
            "sha256": self.sha256,
            "layers": [asdict(layer) for layer in self.layers],
            "states": [asdict(state) for state in self.states],
            "bytes_per_stream": self.bytes_per_stream,
            "overhead_bytes": OVERHEAD_BYTES,
            "max_streams": self.max_streams,
            "capacity_bytes": self.max_streams * (self.bytes_per_stream + OVERHEAD_BYTES),
            "parity": parity,
            "problems": self.problems,
            "notes": self.notes,
        }


def examine(config: Config) -> Report:
    """Load, convert, prove. Raises ConfigError and WorkerError for what is not about the model's form."""
    client_settings(config)
    report = Report(model=str(config.model.path), tolerance=config.model.parity_tolerance)
    report.max_streams = config.state.max_streams
    try:
        model = load_model(config)
    except ModelRefusedError as refused:
        report.problems.append({"layer": refused.layer, "why": refused.why, "instead": refused.instead})
        return report
    report.sha256, report.layers, report.states = model.sha256, model.layers, model.states
    report.bytes_per_stream = model.initial_row.nbytes
    report.parity = model.parity(PARITY_SEQUENCES, PARITY_STEPS)
    # Written so that a difference that is not a number is refused too.
    found = report.parity
    if not found.max_abs_difference <= report.tolerance:
        report.problems.append(
            {
                "layer": "",
                "why": f"streamed outputs differ by {found.max_abs_difference:.3g} ({found.where}) from the model's, "
                f"more than model.parity_tolerance {report.tolerance:g}",
                "instead": "report the layers as a bug, or raise model.parity_tolerance if you can live with it",
            }
        )
    report.notes = _notes(config)
    return report


def refused(config: Config, error: WorkerError) -> Report:
    """The report about a file that is no model, for programs."""
    why, _, instead = str(error).partition("; ")
    return Report(model=str(config.model.path), problems=[{"layer": "", "why": why, "instead": instead}])


def _notes(config: Config) -> list[str]:
    sequence = config.sequence
    boundaries = (sequence.id, sequence.start, sequence.end, sequence.length, sequence.gap)
    if all(boundary is None for boundary in boundaries):
        return ["no boundary is configured (section sequence): a stream's state never returns to zero by itself"]
    return []

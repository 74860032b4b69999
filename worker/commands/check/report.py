"""The report of ``worker check``: what it has found out, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from worker.assembly.input_fields import Readings
from worker.assembly.model_inputs import InputReport, OutputReport
from worker.commands.check.advice import Advice
from worker.commands.check.capacity import (
    COPIED_SHARE,
    OVERHEAD_BYTES,
    StepTime,
    streams_that_fit,
    texts_at_once,
)
from worker.commands.check.expect import SampleReport
from worker.commands.check.texts import TextsReport
from worker.commands.check.two_ways import TwoWays
from worker.commands.check.writing_times import WritingTime
from worker.commands.problems import Problem
from worker.model.facts import TrainedFacts
from worker.model.proof.parity import Parity
from worker.records.states import StateSpec

if TYPE_CHECKING:
    from worker.model.building import LayerReport


@dataclass(slots=True)
class Report:
    """``ok``: the model streams and the proof holds. Everything else says why, or what it costs."""

    model: str
    tolerance: float
    max_streams: int
    readings: Readings
    sha256: str | None = None
    features: int = 0
    units: int = 0
    task: str = "score"
    texts: TextsReport | None = None
    bytes_per_stream: int = 0
    bytes_per_text: int = 0  # beside it while a text is being written
    free_memory_bytes: int | None = None
    inputs: list[InputReport] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    trained: TrainedFacts | None = None
    layers: list[LayerReport] = field(default_factory=list)
    states: list[StateSpec] = field(default_factory=list)
    parity: Parity | None = None
    step_times: list[StepTime] = field(default_factory=list)
    form: str = ""  # how it runs: streaming, or window=128 as the configuration spells it
    first_answer: int = 1  # the number of the event of a sequence that is answered first
    ways: TwoWays | None = None
    writing_times: list[WritingTime] = field(default_factory=list)
    sample: SampleReport | None = None
    expect_file: str | None = None
    problems: list[Problem] = field(default_factory=list)
    advice: Advice = field(default_factory=Advice)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def copied_bytes(self) -> int:
        """A stream's share of the memory for copies, which checkpoints are written from."""
        return self.bytes_per_stream // COPIED_SHARE

    @property
    def overhead_bytes(self) -> int:
        """What a stream takes beside its state: its share of the memory for copies, key and position."""
        return self.copied_bytes + OVERHEAD_BYTES

    @property
    def capacity_bytes(self) -> int:
        """What ``max_streams`` streams take, and the texts that are written at a time."""
        texts_bytes = texts_at_once(self.max_streams) * self.bytes_per_text
        return self.max_streams * (self.bytes_per_stream + self.overhead_bytes) + texts_bytes

    @property
    def streams_that_fit(self) -> int | None:
        """How many streams the free memory holds; None where it can't be known."""
        if self.free_memory_bytes is None or not self.states:
            return None
        each_bytes = self.bytes_per_stream + self.overhead_bytes
        return streams_that_fit(self.free_memory_bytes, each_bytes, self.bytes_per_text)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        parity = None if self.parity is None else {**_finite(asdict(self.parity)), "tolerance": self.tolerance}
        return {
            "ok": self.ok,
            "model": self.model,
            "task": self.task,
            "texts": None if self.texts is None else asdict(self.texts),
            "sha256": self.sha256,
            "features": self.features,
            "units": self.units,
            "stream": self.readings.stream,
            "time": self.readings.time,
            "inputs": [asdict(port) for port in self.inputs],
            "outputs": [asdict(port) for port in self.outputs],
            "trained": None if self.trained is None else asdict(self.trained),
            "layers": [asdict(layer) for layer in self.layers],
            "states": [asdict(state) for state in self.states],
            "bytes_per_stream": self.bytes_per_stream,
            "bytes_per_text": self.bytes_per_text,
            "overhead_bytes": self.overhead_bytes,
            "max_streams": self.max_streams,
            "capacity_bytes": self.capacity_bytes,
            "free_memory_bytes": self.free_memory_bytes,
            "streams_that_fit": self.streams_that_fit,
            "form": self.form,
            "first_answer": self.first_answer,
            "ways": None if self.ways is None else asdict(self.ways),
            "step_times": [asdict(measured) for measured in self.step_times],
            "writing_times": [asdict(measured) for measured in self.writing_times],
            "parity": parity,
            "sample": None if self.sample is None else asdict(self.sample),
            "expect_file": self.expect_file,
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": self.advice.warnings,
            "notes": self.advice.notes,
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for it, and the problem says it in words."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in values.items()}

"""What ``worker check`` finds out, as values. A fault of the model is a problem in the report, not an error."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.assembly.clients import check_clients, client_settings
from worker.assembly.input_fields import Readings, readings
from worker.assembly.model import ROWS_DEPEND, feature_fields, import_modules, load_model, unforeseen_as_one_line
from worker.assembly.model_inputs import InputReport, OutputReport, inputs_of, outputs_of
from worker.assembly.pipeline import build_pipeline
from worker.checkpoints.opening import open_store
from worker.commands.check.advice import HALF_PRECISION_TOLERANCE, Advice, Room, advice
from worker.commands.check.capacity import COPIED_SHARE, OVERHEAD_BYTES, StepTime, free_memory_bytes, step_times
from worker.commands.problems import Problem, problem_of
from worker.config.sections import Config
from worker.errors import ConfigError, ModelRefusedError, WorkerError
from worker.kafka.opening import missing_codecs
from worker.model.facts import TrainedFacts
from worker.model.files.loading import load_model as read_model
from worker.model.proof.parity import Parity, suspicion
from worker.model.streaming import StreamingModel
from worker.model.survey import refusals
from worker.records.states import StateSpec

if TYPE_CHECKING:
    from worker.model.building import LayerReport

PARITY_SEQUENCES = 8


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
    bytes_per_stream: int = 0
    free_memory_bytes: int | None = None
    inputs: list[InputReport] = field(default_factory=list)
    outputs: list[OutputReport] = field(default_factory=list)
    trained: TrainedFacts | None = None
    layers: list[LayerReport] = field(default_factory=list)
    states: list[StateSpec] = field(default_factory=list)
    parity: Parity | None = None
    step_times: list[StepTime] = field(default_factory=list)
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
        """What ``max_streams`` streams take."""
        return self.max_streams * (self.bytes_per_stream + self.overhead_bytes)

    @property
    def streams_that_fit(self) -> int | None:
        """How many streams the free memory holds; None where it can't be known."""
        if self.free_memory_bytes is None or not self.states:
            return None
        return self.free_memory_bytes // (self.bytes_per_stream + self.overhead_bytes)

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        parity = None if self.parity is None else {**_finite(asdict(self.parity)), "tolerance": self.tolerance}
        return {
            "ok": self.ok,
            "model": self.model,
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
            "overhead_bytes": self.overhead_bytes,
            "max_streams": self.max_streams,
            "capacity_bytes": self.capacity_bytes,
            "free_memory_bytes": self.free_memory_bytes,
            "streams_that_fit": self.streams_that_fit,
            "step_times": [asdict(measured) for measured in self.step_times],
            "parity": parity,
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": self.advice.warnings,
            "notes": self.advice.notes,
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: null stands for it, and the problem says it in words."""
    return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in values.items()}


def examine(config: Config) -> Report:
    """Load, convert, prove, measure. Raises WorkerError for what is not about the model."""
    settings = client_settings(config)
    check_clients(settings)
    open_store(config.state.directory, config.kafka.group_id)  # reads no more than its name
    tolerance, max_streams = config.model.parity_tolerance, config.state.max_streams
    report = Report(str(config.model.path), tolerance, max_streams, readings(config))
    try:
        model = load_model(config)
        with unforeseen_as_one_line("proven", config):
            _describe(report, model, config)
            _prove(report, model)
            report.advice = advice(config, model.trained, _room(report), report.inputs)
            build_pipeline(config, model)
            if report.ok and not model.warm_up(config.batch.max_events):
                report.advice.warnings.append(ROWS_DEPEND)
            report.advice.warnings.extend(missing_codecs(settings))
    except ConfigError:
        raise
    except ModelRefusedError as first:
        report.problems += [problem_of(refusal) for refusal in _all_refusals(config, first)]
    except WorkerError as error:
        report.problems.append(problem_of(error))
    return report


def _all_refusals(config: Config, first: ModelRefusedError) -> list[ModelRefusedError]:
    """Every layer that makes the worker refuse a model, so that nobody trains it again once per layer."""
    assert isinstance(config.model.path, Path), "load_model has seen to it"
    try:
        modules = import_modules(config.model.imports)
        trained, _ = read_model(
            config.model.path, config.model.sha256, allow_lambda=config.model.allow_lambda, custom_objects=modules
        )
    except WorkerError:
        return [first]
    found = refusals(trained)
    return found if found and found[0].layer == first.layer else [first]


def _describe(report: Report, model: StreamingModel, config: Config) -> None:
    report.sha256, report.layers, report.states = model.sha256, model.layers, model.states
    report.features, report.units = model.features, model.units
    report.inputs, report.outputs = inputs_of(model, feature_fields(config, model)), outputs_of(model)
    report.bytes_per_stream = model.initial_row.nbytes
    report.trained = model.trained


def _room(report: Report) -> Room:
    return Room(report.capacity_bytes, report.free_memory_bytes, report.streams_that_fit)


def _prove(report: Report, model: StreamingModel) -> None:
    report.parity = found = model.parity(PARITY_SEQUENCES, model.proof_steps)
    if not found.within(report.tolerance):
        half = report.trained is not None and report.trained.half and report.tolerance < HALF_PRECISION_TOLERANCE
        instead = (
            f"set model.parity_tolerance: {HALF_PRECISION_TOLERANCE:g}, the model computes in half precision"
            if half
            else "report the layers as a bug, or raise model.parity_tolerance if you can live with it"
        )
        if report.trained is not None and report.trained.code:
            instead = suspicion(report.trained.code)
        why = (
            f"streamed outputs differ by {found.max_abs_difference:.3g} ({found.where}) from the model's, which go up "
            f"to {found.greatest_output:.3g}: more than model.parity_tolerance {report.tolerance:g}"
        )
        report.problems.append(Problem("", why, instead))
        return
    report.step_times = step_times(model, time.perf_counter)
    report.free_memory_bytes = free_memory_bytes()

"""What ``worker check`` finds out, as values. A fault of the model is a problem in the report, not an error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from worker.assembly.clients import check_clients, client_settings
from worker.assembly.input_fields import readings
from worker.assembly.model import ROWS_DEPEND, feature_fields, load_model, unforeseen_as_one_line
from worker.assembly.model_inputs import inputs_of, outputs_of
from worker.assembly.pipeline import build_pipeline
from worker.assembly.text_model import TextModel, ids_read, model_name
from worker.assembly.watching import expected_ranges, watched_features
from worker.checkpoints.opening import open_store
from worker.commands.check.advice import HALF_PRECISION_TOLERANCE, Room, advice, told_guesses
from worker.commands.check.capacity import (
    free_memory_bytes,
    step_times,
)
from worker.commands.check.expect import read_sample, write_ranges
from worker.commands.check.refused_layers import all_refusals
from worker.commands.check.report import Report
from worker.commands.check.shadow import told_shadow
from worker.commands.check.texts import decoder_of, texts_report
from worker.commands.check.two_ways import two_ways
from worker.commands.check.warming import told_warming
from worker.commands.check.writing_times import writing_times
from worker.commands.problems import Problem, problem_of
from worker.config.sections import Config
from worker.errors import ConfigError, ModelRefusedError, WorkerError
from worker.kafka.opening import missing_codecs
from worker.model.forms import PROOF_STEPS
from worker.model.generative import GenerativeModel
from worker.model.proof.parity import suspicion
from worker.model.streaming import StreamingModel
from worker.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    pass

PARITY_SEQUENCES = 8


def examine(config: Config, data: Path | None = None, write_expect: Path | None = None) -> Report:
    """Load, convert, prove, measure; read the records of ``data``, and write their ranges.

    Raises WorkerError for what is not about the model.
    """
    settings = client_settings(config)
    check_clients(settings)
    open_store(config.state.directory, config.kafka.group_id)  # reads no more than its name
    tolerance, max_streams = config.model.parity_tolerance, config.state.max_streams
    report = Report(model_name(config), tolerance, max_streams, readings(config), task=config.model.task)
    try:
        model = load_model(config)
        with unforeseen_as_one_line("proven", config):
            _describe(report, model, config)
            _prove(report, model, config)
            assert report.trained is not None
            exact_steps = model.exact_steps if isinstance(model, StreamingModel) else None
            report.advice = advice(config, report.trained, _room(report), report.inputs, exact_steps)
            report.advice.notes.extend(told_guesses(model.outputs) if isinstance(model, StreamingModel) else ())
            pipeline = build_pipeline(config, model)
            if report.ok and not model.warm_up(config.batch.max_events):
                report.advice.warnings.append(ROWS_DEPEND)
            report.advice.warnings.extend(missing_codecs(settings))
            if (warming := told_warming(config, report.step_times)) is not None and report.ok:
                report.advice.notes.append(warming)
        if config.shadow.path is not None:
            report.advice.notes.append(told_shadow(config))
    except ConfigError:
        raise
    except ModelRefusedError as first:
        report.problems += [problem_of(refusal) for refusal in all_refusals(config, first)]
    except WorkerError as error:
        report.problems.append(problem_of(error))
    else:
        if isinstance(model, StreamingModel) and isinstance(pipeline, Pipeline) and report.ok:
            _ranges(report, config, model, pipeline, data, write_expect)
    return report


def _ranges(
    report: Report,
    config: Config,
    model: StreamingModel,
    pipeline: Pipeline,
    data: Path | None,
    write_expect: Path | None,
) -> None:
    """What is expected of the features, and what the sample holds of them."""
    # A file that is written anew need not be there yet.
    expected = expected_ranges(config, watched_features(config, model)) if write_expect is None else None
    if data is None:
        return
    report.sample, ranges = read_sample(config, model, pipeline, data, expected)
    if write_expect is not None:
        write_ranges(write_expect, ranges, report.sample, model.sha256)
        report.expect_file = str(write_expect)


def _describe(report: Report, model: StreamingModel | TextModel, config: Config) -> None:
    report.sha256, report.states = model.sha256, list(model.states)
    trained = model.model if isinstance(model, TextModel) else model
    report.layers, report.units = trained.layers, trained.units
    report.trained = trained.streaming.trained if isinstance(trained, GenerativeModel) else trained.trained
    if isinstance(model, TextModel):
        report.bytes_per_stream = model.bytes_per_stream
        report.bytes_per_text = model.bytes_per_text(config.model.beams)
        report.texts = texts_report(model, ids_read(config, model))
        return
    report.bytes_per_stream = model.initial_row.nbytes
    report.features, report.first_answer = model.features, model.first_answer
    report.form = "streaming" if model.window is None else model.window.words
    report.inputs, report.outputs = inputs_of(model, feature_fields(config, model)), outputs_of(model)


def _room(report: Report) -> Room:
    return Room(report.capacity_bytes, report.free_memory_bytes, report.streams_that_fit)


def _prove(report: Report, loaded: StreamingModel | TextModel, config: Config) -> None:
    model = loaded.model if isinstance(loaded, TextModel) else loaded
    steps = model.proof_steps if isinstance(model, StreamingModel) else PROOF_STEPS
    report.parity = found = model.parity(PARITY_SEQUENCES, steps)
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
            f"to {found.greatest_output:.3g}: more than {found.limit(report.tolerance):.3g} "
            f"(model.parity_tolerance {report.tolerance:g})"
        )
        report.problems.append(Problem("", why, instead))
        return
    if isinstance(model, StreamingModel):
        report.step_times = step_times(model, time.perf_counter)
        report.ways = two_ways(model, time.perf_counter)
    else:
        report.writing_times = writing_times(decoder_of(model), config.model.temperature, time.perf_counter)
    report.free_memory_bytes = free_memory_bytes()

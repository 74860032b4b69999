"""``worker check``: does the model stream, provably, and what does it cost? Touches no broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.options import config_option, in_file, read_config
from worker.commands.printing import Lines, findings, page, table
from worker.errors import counted

if TYPE_CHECKING:
    from worker.commands.check.checking import Report

VERDICTS = {True: "ok: this model streams", False: "not ok: a worker with this configuration would refuse to start"}


@click.command(options_metavar="-c FILE [--json]", short_help="Does my model stream, provably, and what does it cost?")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def check(config_file: Path, as_json: bool) -> None:
    """Read configuration and model, convert the model to streaming form, prove that it gives the same numbers, and
    print its states, what a stream costs, how fast a step is here, and what to know before running it. Touches no
    broker.

    \b
    Example:
      worker check -c worker.yaml
    """
    config = read_config(config_file)
    from worker.commands.check.checking import examine

    with in_file(config_file):
        report = examine(config)
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else _text(report))
    if not report.ok:
        if not (sys.stdout.isatty() and sys.stderr.isatty()):  # the block above has just said it
            click.echo(f"worker: {_in_a_line(report)}", err=True)
        raise click.exceptions.Exit(1)


def _in_a_line(report: Report) -> str:
    """The first problem: what, where, what to do."""
    problem = report.problems[0]
    line = f"{problem.what}; {problem.instead}" if problem.instead else problem.what
    return line if line.startswith(f"model {report.model}: ") else f"model {report.model}: {line}"


def _text(report: Report) -> str:
    sections = (_model, _inputs, _outputs, _layers, _cost, _speed, _proof, _findings)
    return page(line for section in sections for line in section(report)) + f"\n{VERDICTS[report.ok]}"


def _model(report: Report) -> Lines:
    yield "model", report.model
    if report.sha256:
        yield "sha-256", report.sha256
    if report.trained is not None:
        window = report.trained.window
        steps = "sequences of any length" if window is None else f"windows of {counted(window, 'step')}"
        numbers = f"{counted(report.features, 'number')} in, {report.units:,} out"
        yield "trained on", f"{steps}; per event {numbers}"
        yield "stream", report.readings.stream
        yield "time", report.readings.time


def _inputs(report: Report) -> Lines:
    """Of a single input all there is to say is how many numbers it takes."""
    if len(report.inputs) < 2:
        return
    rows = [
        (
            port.name,
            _columns(port.first, port.last),
            "constant per stream" if port.constant else "per event",
            ", ".join(port.fields),
        )
        for port in report.inputs
    ]
    yield from table("inputs", [("name", "columns", "when", "from input.features"), *rows])


def _outputs(report: Report) -> Lines:
    if len(report.outputs) > 1:
        rows = [(port.name, _columns(port.first, port.last)) for port in report.outputs]
        yield from table("outputs", [("name", "numbers"), *rows])


def _layers(report: Report) -> Lines:
    if not report.layers:
        return
    rows = [(layer.layer, layer.kind, layer.form) for layer in report.layers]
    yield from table("layers", [("name", "kind", "how it runs on one event"), *rows])
    states = [(f"{state.layer}/{state.name}", _shape(state.shape), state.dtype) for state in report.states]
    yield from table("states", [("layer/state", "shape", "type"), *states])


def _cost(report: Report) -> Lines:
    from worker.commands.check.advice import size

    if not report.states:
        return
    state, overhead = report.bytes_per_stream, report.overhead_bytes
    copies = report.copied_bytes
    beside = f"{copies:,} for copies in checkpoints, about {overhead - copies} for key and position"
    yield "per stream", f"{state + overhead:,} bytes: {state:,} of state, {beside}"
    yield (
        "capacity",
        f"{report.max_streams:,} streams of a partition (state.max_streams) take {size(report.capacity_bytes)}",
    )
    if report.streams_that_fit is not None and report.free_memory_bytes is not None:
        room = f"room for about {_rounded(report.streams_that_fit)} streams"
        yield "memory", f"{size(report.free_memory_bytes)} are free here: {room}"


def _speed(report: Report) -> Lines:
    rows = [
        (f"{step.batch:,}", f"{step.seconds * 1000:,.2f} ms", f"{_rounded(step.events_per_second)} events/s")
        for step in report.step_times
    ]
    if rows:
        yield from table("speed", [("streams", "per step", "the model alone, here"), *rows], right=True)


def _proof(report: Report) -> Lines:
    parity = report.parity
    if parity is None:
        return
    verdict = "holds" if parity.within(report.tolerance) else "FAILED"
    compared = f"{parity.sequences} random sequences of {parity.steps} steps, compared after every step"
    yield "proof", f"{verdict}: {compared} (model.parity_tolerance {report.tolerance:g})"
    rows = [
        ("streamed, against the trained model", _distance(parity.prefixes)),
        ("many streams at once, against one alone", _distance(parity.batching)),
        ("a copy of any length, against the original", _distance(parity.original)),
    ]
    yield from table("", rows)
    if parity.max_abs_difference:
        yield "", f"worst: {parity.where}"


def _findings(report: Report) -> Lines:
    yield from findings(report.problems)
    yield from (("warning", warning) for warning in report.advice.warnings)
    yield from (("note", note) for note in report.advice.notes)


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{size:,}" for size in shape) or "1"


def _columns(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _distance(difference: float) -> str:
    return f"{difference:.2g} at most" if difference else "bit for bit the same"


def _rounded(number: float) -> str:
    """Two significant digits: measurements and estimates are no more exact."""
    return f"{int(float(f'{number:.2g}')):,}"

"""``worker check``: does the model stream, provably, and what does it cost? Touches no broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.options import config_option, in_file, read_config
from worker.commands.printing import Lines, findings, page, rounded, table
from worker.errors import counted

if TYPE_CHECKING:
    from worker.commands.check.report import Report
    from worker.commands.check.texts import VocabularyReport

VERDICTS = {True: "ok: this model streams", False: "not ok: a worker with this configuration would refuse to start"}
ON_A_WINDOW = "ok: this model runs on a window"


FILE = click.Path(path_type=Path)


@click.command(
    options_metavar="-c FILE [--data SAMPLE.jsonl [--write-expect FILE]] [--json]",
    short_help="Does my model stream, provably, and what does it cost?",
)
@config_option
@click.option(
    "--data", metavar="SAMPLE.jsonl", type=FILE, help="Records as replay reads them: print what their features hold."
)
@click.option("--write-expect", metavar="FILE", type=FILE, help="Write the ranges of these features, for model.expect.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def check(config_file: Path, data: Path | None, write_expect: Path | None, as_json: bool) -> None:
    """Read configuration and model, convert the model to streaming form, prove that it gives the same numbers, and
    print its states, what a stream costs, how fast a step is here, and what to know before running it. Touches no
    broker.

    \b
    Examples:
      worker check -c worker.yaml
      worker check -c worker.yaml --data readings.jsonl --write-expect ranges.json
    """
    if write_expect is not None and data is None:
        raise click.UsageError("--write-expect: needs --data SAMPLE.jsonl, records to take the ranges from")
    config = read_config(config_file)
    if data is not None and config.model.task != "score":
        raise click.UsageError(f"--data: is for task score, but model.task is {config.model.task}")
    from worker.commands.check.checking import examine

    with in_file(config_file):
        report = examine(config, data, write_expect)
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
    sections = (_model, _texts, _inputs, _outputs, _layers, _cost, _speed, _ways, _proof, _sample, _findings)
    return page(line for section in sections for line in section(report)) + f"\n{_verdict(report)}"


def _verdict(report: Report) -> str:
    return ON_A_WINDOW if report.ok and report.form.startswith("window") else VERDICTS[report.ok]


def _model(report: Report) -> Lines:
    yield "model", report.model
    if report.sha256:
        yield "sha-256", report.sha256
    if report.trained is not None:
        window = report.trained.window
        steps = "sequences of any length" if window is None else f"windows of {counted(window, 'step')}"
        numbers = "" if report.texts else f"; per event {counted(report.features, 'number')} in, {report.units:,} out"
        yield "trained on", f"{steps}{numbers}"
        if report.form.startswith("window"):
            yield "form", f"the trained model as it is, on windows: {report.form}"
        if report.first_answer > 1:
            yield "answers", f"the first after event {report.first_answer:,} of each sequence: no output before it"
        yield "stream", report.readings.stream
        yield "time", report.readings.time


def _texts(report: Report) -> Lines:
    """Of a model that writes: what it reads, and what it writes."""
    texts = report.texts
    if texts is None:
        return
    yield "task", report.task
    if report.task == "seq2seq":
        yield "reads", _vocabulary(texts.source)
        whole = f"as a whole, once they are complete: {texts.reads_whole}" if texts.reads_whole else "item by item"
        yield "sources", f"are read {whole}"
    yield "writes", f"{_vocabulary(texts.target)}{', from logits' if texts.logits else ''}"
    ends = [f"{name} {item!r}" for name, item in (("start", texts.start), ("stop", texts.stop)) if item is not None]
    yield "items", ", ".join([*ends, "one-hot" if texts.one_hot else "by id"])


def _vocabulary(vocabulary: VocabularyReport) -> str:
    return vocabulary.kind if vocabulary.items is None else f"{vocabulary.items:,} {vocabulary.kind}"


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
    from worker.commands.check.capacity import texts_at_once

    if not report.states:
        return
    state, overhead = report.bytes_per_stream, report.overhead_bytes
    copies = report.copied_bytes
    beside = f"{copies:,} for copies in checkpoints, about {overhead - copies} for key and position"
    yield "per stream", f"{state + overhead:,} bytes: {state:,} of state, {beside}"
    if report.texts is not None:
        most = f"at most {texts_at_once(report.max_streams):,} of a partition at a time"
        yield "per text", f"{report.bytes_per_text:,} bytes more while it is being written, {most}"
    yield (
        "capacity",
        f"{report.max_streams:,} streams of a partition (state.max_streams) take {size(report.capacity_bytes)}",
    )
    if report.streams_that_fit is not None and report.free_memory_bytes is not None:
        room = f"room for about {rounded(report.streams_that_fit)} streams"
        yield "memory", f"{size(report.free_memory_bytes)} are free here: {room}"


def _speed(report: Report) -> Lines:
    rows = [
        (f"{step.batch:,}", f"{step.seconds * 1000:,.2f} ms", f"{rounded(step.events_per_second)} events/s")
        for step in report.step_times
    ]
    rows += [
        (f"{step.batch:,}", f"{step.seconds * 1000:,.2f} ms", f"{rounded(step.items_per_second)} items/s")
        for step in report.writing_times
    ]
    if rows:
        yield from table("speed", [("streams", "per step", "the model alone, here"), *rows], right=True)


def _ways(report: Report) -> Lines:
    """The two ways, where there are two."""
    from worker.commands.check.two_ways import told

    if report.ways is not None:
        yield from told(report.ways)


def _proof(report: Report) -> Lines:
    parity = report.parity
    if parity is None:
        return
    streamed = "on windows" if report.form.startswith("window") else "streamed"
    verdict = "holds" if parity.within(report.tolerance) else "FAILED"
    compared = f"{parity.sequences} random sequences of {parity.steps} steps, compared after every step"
    limit = parity.limit(report.tolerance)
    stricter = f"within {limit:g}, as Keras repeats itself; " if limit < report.tolerance else ""
    yield "proof", f"{verdict}: {compared} ({stricter}model.parity_tolerance {report.tolerance:g})"
    rows = [
        (f"{streamed}, against the trained model", _distance(parity.prefixes)),
        ("many streams at once, against one alone", _distance(parity.batching)),
        ("a copy of any length, against the original", _distance(parity.original)),
    ]
    yield from table("", rows)
    if parity.max_abs_difference:
        yield "", f"worst: {parity.where}"


def _sample(report: Report) -> Lines:
    sample = report.sample
    if sample is None:
        return
    refused = f", {counted(sample.refused, 'record')} refused" if sample.refused else ""
    yield "sample", f"{counted(sample.events, 'event')}{refused}"
    rows = [
        (
            each.name,
            *(f"{number:.4g}" for number in (each.low, each.high, each.mean, each.spread)),
            _share(each.outside),
        )
        for each in sample.features
    ]
    yield from table("", [("feature", "lowest", "highest", "mean", "spread", "outside model.expect"), *rows])
    if report.expect_file is not None:
        yield "expect", f"{report.expect_file} is written: the ranges of {counted(len(rows), 'feature')}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


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

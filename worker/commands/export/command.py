"""``worker export``: the explicit-state model as an ordinary Keras file, for other servers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.options import config_option, in_file, read_config
from worker.commands.printing import Lines, page, table
from worker.commands.problems import problem_of
from worker.errors import ConfigError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.assembly.model_inputs import InputReport, OutputReport
    from worker.commands.export.exporting import Exported
    from worker.commands.export.files import Port
    from worker.commands.export.pair import ExportedPair

SUFFIX = ".keras"


@click.command(
    options_metavar="-c FILE --output MODEL.keras [--json]",
    short_help="The explicit-state model as an ordinary Keras file, for other servers.",
)
@config_option
@click.option(
    "--output", required=True, metavar="MODEL.keras", type=click.Path(path_type=Path),
    help="The file to write; an existing file is replaced, but never the trained model itself.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print what was written as one JSON object.")
def export(config_file: Path, output: Path, as_json: bool) -> None:
    """Convert the model to streaming form, prove that it gives the same numbers, and write it as an ordinary Keras
    model [x, *states] -> [y, *states]. The file is read again with plain Keras and compared before it gets its name.
    Of task seq2seq two files are written, NAME-encoder.keras and NAME-decoder.keras. Touches no broker.

    \b
    Example:
      worker export -c worker.yaml --output door-step.keras
    """
    if output.suffix != SUFFIX:
        raise click.BadParameter(f"'{output}' should end in {SUFFIX}", param_hint="--output")
    config = read_config(config_file)
    from worker.assembly.text_model import model_name
    from worker.commands.export.exporting import export as write
    from worker.commands.export.pair import ExportedPair, export_pair

    try:
        with in_file(config_file):
            exported = export_pair(config, output) if config.model.task == "seq2seq" else write(config, output)
    except ConfigError:
        raise
    except WorkerError as error:
        if not as_json:
            raise
        refusal = {"ok": False, "model": model_name(config), "problems": [asdict(problem_of(error))]}
        click.echo(json.dumps(refusal, indent=2))
        raise click.exceptions.Exit(1) from None
    text = _pair_text(exported) if isinstance(exported, ExportedPair) else _text(exported)
    click.echo(json.dumps(exported.as_json(), indent=2) if as_json else text)


def _text(exported: Exported) -> str:
    sections = (_files, _ports, _use)
    return page(line for section in sections for line in section(exported)) + f"\nok: {exported.output} is written"


def _pair_text(exported: ExportedPair) -> str:
    names = " and ".join(side.output for side in (exported.encoder, exported.decoder))
    return page(_pair(exported)) + f"\nok: {names} are written"


def _pair(exported: ExportedPair) -> Lines:
    yield "model", exported.model
    yield "proof", f"derived from it, the pair gives the same numbers: {_distance(exported.parity)}"
    yield "", f"the files, read again, give them too: {_distance(exported.max_abs_difference)}"
    for name, side in (("encoder", exported.encoder), ("decoder", exported.decoder)):
        yield name, side.output
        yield "sha-256", side.sha256
        yield from _in_and_out(side.inputs, side.outputs)
        if side.needs:
            yield "needs", f"register these before reading it: {', '.join(side.needs)}"
    yield "each source", "give it to the encoder as a whole; its answers are the first states of the decoder"
    yield "each item", "give the decoder the last item, the start item first, and its states; output 0 is the answer"


def _in_and_out(inputs: Sequence[Port], outputs: Sequence[Port]) -> Lines:
    for label, ports in (("inputs", inputs), ("outputs", outputs)):
        rows = [(str(number), port.name, _shape(port), port.dtype) for number, port in enumerate(ports)]
        yield from table(label, [("", "name", "shape", "type"), *rows])


def _files(exported: Exported) -> Lines:
    yield "model", exported.model
    yield "output", exported.output
    yield "sha-256", exported.sha256
    yield "proof", f"streamed, the model gives the same numbers: {_distance(exported.parity)}"
    yield "", f"the file, read with plain Keras, gives them too: {_distance(exported.max_abs_difference)}"


def _ports(exported: Exported) -> Lines:
    yield from _in_and_out(exported.inputs, exported.outputs)
    for name, parts in (("x", exported.parts_of_x), ("y", exported.parts_of_y)):
        if len(parts) > 1:
            yield from table(name, [(f"{name}[..., {each.first}:{each.last + 1}]", *_whose(each)) for each in parts])


def _whose(port: InputReport | OutputReport) -> tuple[str, ...]:
    when = getattr(port, "constant", None)
    return (port.name,) if when is None else (port.name, "constant per stream" if when else "per event")


def _use(exported: Exported) -> Lines:
    yield "each event", "call it with all inputs in this order, as a list; output 0 is the answer"
    if any(port.name == "answered" for port in exported.outputs):
        yield (
            "",
            "output 1 is 1 where there is an answer; where it is 0, there is none yet, and output 0 says nothing",
        )
    yield "", "the other outputs are the stream's new states: keep them, they are inputs of its next event"
    yield "new stream", "all states are zeros" + (", but for:" if exported.initial else "")
    rows = [(name, _value(values)) for name, values in exported.initial.items()]
    if rows:
        yield from table("", rows)
    yield "batch", "each row is a stream, any number of them at once; rows don't touch each other"
    if exported.has_lambda:
        yield "lambda", "it holds Python code: Keras reads it only with load_model(..., safe_mode=False)"
    if exported.needs:
        yield "needs", f"register these before reading it, or give them as custom_objects: {', '.join(exported.needs)}"


def _shape(port: Port) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in port.shape) + ")"


def _value(values: list[object]) -> str:
    """What all numbers of a state are, or that they differ."""
    flat = list(values)
    while flat and isinstance(flat[0], list):
        flat = [item for part in flat if isinstance(part, list) for item in part]
    return f"{flat[0]} everywhere" if len({str(item) for item in flat}) == 1 else "numbers that --json lists"


def _distance(difference: float) -> str:
    return f"at most {difference:.2g} apart" if difference else "bit for bit"

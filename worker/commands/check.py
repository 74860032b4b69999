"""``worker check``: does the model stream, provably, and what does it cost? Touches no broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.commands.options import config_option, in_file, read_config
from worker.errors import ConfigError, WorkerError

if TYPE_CHECKING:
    from worker.checking import Report


@click.command(options_metavar="-c FILE [--json]", short_help="Does my model stream, provably, and what does it cost?")
@config_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
def check(config_file: Path, as_json: bool) -> None:
    """Read configuration and model, convert the model to streaming form, prove that it gives the same numbers, and
    print states, bytes per stream and capacity. Touches no broker.

    \b
    Example:
      worker check -c worker.yaml
    """
    config = read_config(config_file)
    from worker.checking import examine, refused

    try:
        with in_file(config_file):
            report = examine(config)
    except ConfigError:
        raise
    except WorkerError as error:
        if not as_json:
            raise
        report = refused(config, error)
    click.echo(json.dumps(report.as_json(), indent=2) if as_json else _text(report))
    if not report.ok:
        raise click.exceptions.Exit(1)


def _text(report: Report) -> str:
    facts: dict[str, Any] = report.as_json()
    lines = [f"model            {facts['model']}"]
    if facts["sha256"]:
        lines.append(f"sha-256          {facts['sha256']}")
    if report.layers:
        width = max(len(layer["layer"]) for layer in facts["layers"])
        lines.append("layers")
        lines += [f"  {layer['layer']:<{width}}  {layer['kind']:<20} {layer['form']}" for layer in facts["layers"]]
        lines.append("states           " + ", ".join(_state(state) for state in facts["states"]))
        state, overhead = facts["bytes_per_stream"], facts["overhead_bytes"]
        lines.append(f"bytes per stream {state:,} (state) + about {overhead} (key, position)")
        lines.append(f"capacity         {facts['max_streams']:,} streams take {_size(facts['capacity_bytes'])}")
    if report.parity is not None:
        parity = facts["parity"]
        verdict = "proven" if parity["max_abs_difference"] <= parity["tolerance"] else "REFUSED"
        lines.append(
            f"parity           {verdict}: {_distance(parity['max_abs_difference'])} on every prefix of "
            f"{parity['sequences']} random sequences of {parity['steps']} steps (tolerance {parity['tolerance']:g})"
        )
    for problem in facts["problems"]:
        place = f"layer '{problem['layer']}': " if problem["layer"] else ""
        lines += [f"refused          {place}{problem['why']}", f"  instead        {problem['instead']}"]
    lines += [f"note             {note}" for note in facts["notes"]]
    lines.append("ok: this model streams" if report.ok else "not ok: this model can't be streamed as it is")
    return "\n".join(lines)


def _distance(difference: float) -> str:
    return f"at most {difference:.2g} from the model" if difference else "bit for bit the model's answer"


def _state(state: dict[str, Any]) -> str:
    return f"{state['layer']}/{state['name']} {tuple(state['shape'])} {state['dtype']}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"

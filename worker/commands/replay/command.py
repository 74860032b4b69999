"""``worker replay``: records from a file instead of Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.options import config_option, in_file, read_config
from worker.errors import WorkerError

if TYPE_CHECKING:
    from worker.member.engine_counts import AnyEngine

FILE = click.Path(path_type=Path, allow_dash=True)


@click.command(
    options_metavar="-c FILE --input IN.jsonl --output OUT.jsonl",
    short_help="Records from a file instead of Kafka, through the same path.",
)
@config_option
@click.option(
    "--input", "source", required=True, metavar="IN.jsonl", type=FILE, help="A record per line; - reads standard input."
)
@click.option(
    "--output", "target", required=True, metavar="OUT.jsonl", type=FILE,
    help="Outputs and dead letters, in input order; - writes to standard output.",
)  # fmt: skip
def replay(config_file: Path, source: Path, target: Path) -> None:
    """Feed records from a file through the same path as run: same input, same bytes out. Touches no broker.

    \b
    A line of the input:   {"key": "watch-07", "value": {"ax": 0.1, "ay": 0.2, "az": 0.3}, "timestamp": 1795240795377}
    Optional in a line:    topic, partition (0), offset (counts up), timestamp (ms), headers, key_base64, value_base64
    \b
    Example:
      worker replay -c worker.yaml --input readings.jsonl --output probabilities.jsonl
    """
    config = read_config(config_file)
    from worker.assembly.model import load_model
    from worker.assembly.pipeline import build_pipeline
    from worker.assembly.shadow import replayed_shadow
    from worker.commands.replay.replaying import read_records
    from worker.commands.replay.replaying import replay as run_replay
    from worker.commands.replay.writing import Writer

    if str(source) != "-" and source.exists() and target.exists() and source.samefile(target):
        raise WorkerError(f"--output: {target} is the input too, and would be emptied before it is read")
    try:
        with in_file(config_file), click.open_file(str(source), "rb") as lines:
            model = load_model(config)
            pipeline, shadow = build_pipeline(config, model), replayed_shadow(config)
            records = read_records(lines, str(source), config.input.topics[0], config.input.format)
            with click.open_file(str(target), "wb") as file:
                topics = config.output.topic, config.dead_letters.topic
                writer = Writer(file, *topics, config.output.format, config.shadow.topic)
                counts = run_replay(pipeline, records, config.batch.max_events, writer, shadow)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WorkerError(f"{error.filename or target}: {error.strerror}") from None
    click.echo(f"{counts[0]:,} records, {counts[1]:,} outputs, {counts[2]:,} refused", err=True)
    _tell_oddities(pipeline.engine, config.sequence.late)


def _tell_oddities(engine: AnyEngine, late: str) -> None:
    from worker.engine.feedback import FeedbackEngine

    dropped = engine.sources_dropped if isinstance(engine, FeedbackEngine) else 0
    for number, what in (
        (engine.late, f"events older than their stream's greatest event time (sequence.late: {late})"),
        (engine.without_stream, "tombstones or resets that name no known stream"),
        (dropped, "sources that a boundary (id, start, gap) ended before they were complete: no output"),
        (engine.table.doubles.count, "streams in two partitions of a topic, each with a state of its own"),
    ):
        if number:
            click.echo(f"{number:,} {what}", err=True)

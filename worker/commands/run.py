"""``worker run``: the worker."""

from __future__ import annotations

from pathlib import Path

import click

from worker.commands.options import config_option, read_config


@click.command(short_help="The worker: Kafka in, a probability after every event out.")
@config_option
def run(config_file: Path) -> None:
    """Read the input topic, step the model for every event, write the outputs, checkpoint all states.

    SIGTERM or Ctrl-C ends in order: outputs acknowledged, offsets committed, checkpoints written, group left.
    A second signal ends at once; the next start goes on rightly after either.

    \b
    Example:
      worker run -c worker.yaml
    """
    config = read_config(config_file)
    from worker.service import serve

    serve(config)

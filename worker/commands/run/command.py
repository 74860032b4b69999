"""``worker run``: the worker."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from worker.commands.options import config_option, in_file, read_config
from worker.errors import ConfigError, KafkaUnavailableError, WorkerError
from worker.stopping import Stopping

EXIT_AT_ONCE, EXIT_FAILED, EXIT_USAGE = 1, 1, 2
END_LIMIT_S = 55.0  # after the first signal; a stop in order takes about half, and Kubernetes is told to wait 60 s
STDERR = 2


@click.command(options_metavar="-c FILE", short_help="The worker: Kafka in, a probability after every event out.")
@config_option
def run(config_file: Path) -> None:
    """Read the input topic, step the model for every event, write the outputs, checkpoint all states.

    SIGTERM or Ctrl-C stops in order: outputs acknowledged, offsets committed, checkpoints written, group left. A second
    signal exits at once, and a stop that hangs ends within a minute; the next start recovers either way.

    \b
    Example:
      worker run -c worker.yaml
    """
    config = read_config(config_file)
    stop = stop_on_signals()  # before the imports: they take seconds, and a signal meanwhile is status 0, too
    from worker.commands.run.service import serve

    with _in_form(config.log.format), in_file(config_file):
        serve(config, stop)


@contextmanager
def _in_form(form: str) -> Iterator[None]:
    """The line that a worker ends with is of the same form as all others."""
    try:
        yield
    except (WorkerError, KafkaUnavailableError) as error:
        if form == "text":
            raise
        logging.getLogger("worker").critical("%s", error, extra={"error": type(error).__name__})
        raise click.exceptions.Exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED) from None


def stop_on_signals() -> Stopping:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process at once.

    A process that is told to stop always ends within END_LIMIT_S: if something hangs then, even in a client's own code,
    the stacks of all threads are printed, and the exit status is 1.
    """
    stop = Stopping()

    def stop_or_die(number: int, frame: object) -> None:
        if stop.is_set():
            os._exit(EXIT_AT_ONCE)
        stop.set()
        faulthandler.dump_traceback_later(END_LIMIT_S, exit=True, file=STDERR)

    for number in (signal.SIGINT, signal.SIGTERM):  # who sees that SIGTERM is heard may send either
        signal.signal(number, stop_or_die)
    return stop

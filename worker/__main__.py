"""``worker``: the commands, and what their errors look like from outside.

Exit status: 0 done, 1 refused or failed, 2 wrong usage or configuration. A traceback means a bug.
"""

from __future__ import annotations

import os
import sys

import click

from worker import __version__
from worker.commands.bench.command import bench
from worker.commands.check.command import check
from worker.commands.demo.command import demo
from worker.commands.export.command import export
from worker.commands.handover.command import handover
from worker.commands.kafka.command import kafka
from worker.commands.replay.command import replay
from worker.commands.run.command import run
from worker.errors import ConfigError, UnavailableError, WorkerError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="worker")
def cli() -> None:
    """Keras recurrent networks on Kafka: one state per stream, a probability after every event.

    \b
    Begin with:
      worker demo                     the whole thing on this machine, with real sensor data
      worker check -c worker.yaml     does my model stream, and what does it cost?
      worker run -c worker.yaml       the worker
    """


for command in (demo, run, check, replay, export, handover, bench, kafka):
    cli.add_command(command)


def main() -> None:
    """Run the command line; never returns."""
    try:
        # Not in standalone mode, click answers the status of ctx.exit() and of raised Exits.
        status = cli(prog_name="worker", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        status = EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        status = EXIT_INTERRUPTED
    except ConfigError as error:
        status = _say(error, EXIT_USAGE)
    except (WorkerError, UnavailableError) as error:
        status = _say(error, EXIT_FAILED)
    except BrokenPipeError:
        # The reader has seen enough (`worker check | head`): not a failure worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_FAILED
    sys.exit(status)


def _say(error: Exception, status: int) -> int:
    click.echo(f"worker: {error}", err=True)
    return status


if __name__ == "__main__":
    main()

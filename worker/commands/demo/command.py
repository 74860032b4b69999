"""The command ``worker demo``. Rule of this file: cheap to import, because ``worker --help`` imports it."""

from __future__ import annotations

import sys

import click

EVENTS_WITHOUT_TERMINAL = 5_000
DEFAULT_SPEED = 4.0


@click.command(short_help="The whole thing on this machine: Kafka, real sensor data, a live page.")
@click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT[,…]",
    help="Use this cluster; the command creates and deletes its own topics. Default: start a Kafka broker here.",
)
@click.option(
    "--events",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Stop after N events and print a summary. Default: until Ctrl-C; {EVENTS_WITHOUT_TERMINAL:,} without a "
    "terminal.",
)
@click.option(
    "--watches",
    type=click.IntRange(min=1, max=1_000),
    metavar="N",
    help="Smart watches at once. Default: 40, fewer where --events is too small for each to finish a sequence.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1, max=1_000),
    metavar="X",
    default=DEFAULT_SPEED,
    show_default=True,
    help="Speed as a multiple of real time; a watch measures ten times a second.",
)
def demo(bootstrap_servers: str | None, events: int | None, watches: int | None, speed: float) -> None:
    """Watch the worker follow real smart watches: standing, running, walking or badminton, after every event.

    Starts Kafka and the worker, plays recorded accelerometers and gyroscopes, and shows each watch's probabilities
    as they come, since when they are right, throughput and lag. Takes everything down at the end.

    Example: worker demo --events 20000 --speed 10
    """
    from rich.console import Console

    from worker.commands.demo.player import watches_for
    from worker.commands.demo.session import Options, run

    terminal = sys.stdout.isatty()
    if events is None and not terminal:
        events = EVENTS_WITHOUT_TERMINAL
    console = Console(force_terminal=terminal)  # whatever FORCE_COLOR says: the page needs a screen
    run(Options(bootstrap_servers, events, watches or watches_for(events), speed), console)

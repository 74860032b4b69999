"""The command ``worker demo``. Rule of this file: cheap to import, because ``worker --help`` imports it."""

from __future__ import annotations

import sys
from typing import Literal

import click

EVENTS_WITHOUT_TERMINAL = 5_000
TEXTS_WITHOUT_TERMINAL = 400
STREAMS_OF_TEXTS = 16
DEFAULT_SPEED = 4.0


@click.command(short_help="The whole thing on this machine: Kafka, real sensor data, a live page.")
@click.option(
    "--task",
    type=click.Choice(["score", "generate", "seq2seq"]),
    default="score",
    show_default=True,
    help="What the model does: say what a watch does, write text, or translate. The last two train their model at the "
    "first time, for a minute or two.",
)
@click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT[,…]",
    help="Use this cluster; the command creates and deletes its own topics. Default: start a Kafka broker here.",
)
@click.option(
    "--play",
    "topic",
    metavar="TOPIC",
    help="Only write readings of smart watches to this topic of --bootstrap-servers, for a worker that runs elsewhere.",
)
@click.option(
    "--events",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Stop after N events and print a summary. Default: until Ctrl-C; {EVENTS_WITHOUT_TERMINAL:,} without a "
    f"terminal. An event is a measurement, or a text that is asked for ({TEXTS_WITHOUT_TERMINAL:,}).",
)
@click.option(
    "--watches",
    "--streams",
    "streams",
    type=click.IntRange(min=1, max=1_000),
    metavar="N",
    help="Streams at once. Default: 40 smart watches, fewer where --events is too small for each to finish a sequence; "
    f"{STREAMS_OF_TEXTS} texts.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.1, max=1_000),
    metavar="X",
    default=DEFAULT_SPEED,
    show_default=True,
    help="Speed as a multiple of real time; a watch measures ten times a second. At 1, a text grows by ten characters "
    "a second, and a sentence is translated every eight seconds.",
)
def demo(
    task: Literal["score", "generate", "seq2seq"],
    bootstrap_servers: str | None,
    topic: str | None,
    events: int | None,
    streams: int | None,
    speed: float,
) -> None:
    """Watch the worker follow real smart watches: standing, running, walking or badminton, after every event.

    Starts Kafka and the worker, plays recorded accelerometers and gyroscopes, and shows each watch's probabilities
    as they come, since when they are right, throughput and lag. Takes everything down at the end.

    With --task generate or seq2seq many streams write or translate at once, live; in the end each text is compared with
    what the model writes alone.

    Example: worker demo --events 20000 --speed 10
    """
    from rich.console import Console

    terminal = sys.stdout.isatty()
    if topic is not None:
        if bootstrap_servers is None or task != "score":
            raise click.BadParameter("needs --bootstrap-servers, and plays watches only", param_hint="--play")
        _play_alone(bootstrap_servers, topic, events, streams, speed)
        return
    if events is None and not terminal:
        events = EVENTS_WITHOUT_TERMINAL if task == "score" else TEXTS_WITHOUT_TERMINAL
    console = Console(force_terminal=terminal)  # whatever FORCE_COLOR says: the page needs a screen
    if task == "score":
        from worker.commands.demo.player import watches_for
        from worker.commands.demo.session import Options, run

        run(Options(bootstrap_servers, events, streams or watches_for(events), speed), console)
        return
    from worker.commands.demo.texts.session import TextOptions
    from worker.commands.demo.texts.session import run as run_texts

    run_texts(TextOptions(task, bootstrap_servers, events, streams or STREAMS_OF_TEXTS, speed), console)


def _play_alone(bootstrap_servers: str, topic: str, events: int | None, watches: int | None, speed: float) -> None:
    from rich.console import Console

    from worker.commands.demo.player import watches_for
    from worker.commands.demo.playing import PlayOptions, play

    play(PlayOptions(bootstrap_servers, topic, events, watches or watches_for(events), speed), Console())

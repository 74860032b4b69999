"""The command ``worker bench``. Rule of this file: cheap to import, because ``worker --help`` imports it."""

from __future__ import annotations

from pathlib import Path

import click

CLIENTS = ("kafka-python", "confluent")
DELIVERIES = ("at_least_once", "exactly_once")


@click.command(short_help="How fast it is on this machine, beside the null pipeline of the same client.")
@click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT[,…]",
    help="Use this cluster; the command creates and deletes its own topics. Default: start a Kafka broker here.",
)
@click.option("--client", type=click.Choice(CLIENTS), help="Default: every client that is installed.")
@click.option("--delivery", type=click.Choice(DELIVERIES), help="Default: both.")
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your model. Default: LSTMs of 32 and 16 units.",
)
@click.option(
    "--events", type=click.IntRange(min=1_000), default=200_000, show_default=True, help="Events in each run."
)
@click.option("--streams", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option(
    "--keys",
    type=click.Choice(("uniform", "zipf", "hot")),
    default="uniform",
    show_default=True,
    help="How events are spread over the streams; hot: half of them belong to one stream.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1, max=100),
    default=3,
    show_default=True,
    help="Rounds; every contender runs once in each.",
)
@click.option(
    "--cores", metavar="LIST", help="Pin each contender to these cores, as for taskset: 0 or 0,1. Default: all."
)
@click.option(
    "--rate",
    type=click.IntRange(min=10),
    default=1_000,
    show_default=True,
    help="Events per second while latency is measured.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=3_600),
    default=10.0,
    show_default=True,
    help="Length of each latency measurement.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write all figures to this file."
)
def bench(**given: object) -> None:
    """Measure throughput and latency: the worker as `worker run` runs it, and a pipeline without model and state.

    Each contender reads the same events from a topic that was filled beforehand and writes its answers to a topic of
    its own; the times are the broker's. An answer that is missing or wrong ends the benchmark.

    Example: worker bench --client confluent --streams 100000 --cores 0
    """
    from worker.commands.bench.session import Options, run

    run(Options(**given), click.echo)  # type: ignore[arg-type]

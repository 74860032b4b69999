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
    help="Use this cluster; topics of its own are created and deleted. Default: start a Kafka broker here.",
)
@click.option("--client", type=click.Choice(CLIENTS), help="Default: every one that is installed.")
@click.option("--delivery", type=click.Choice(DELIVERIES), help="Default: both.")
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your model. Default: LSTMs of 32 and 16 units.",
)
@click.option("--events", type=click.IntRange(min=1_000), default=200_000, show_default=True, help="In each run.")
@click.option("--streams", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option(
    "--keys",
    type=click.Choice(("uniform", "zipf", "hot")),
    default="uniform",
    show_default=True,
    help="How often which stream has an event; hot: half of all are of one stream.",
)
@click.option(
    "--rounds", type=click.IntRange(min=1, max=100), default=3, show_default=True, help="Of all contenders in turns."
)
@click.option(
    "--cores", metavar="LIST", help="Hold each contender to these, as taskset takes them: 0 or 0,1. Default: all."
)
@click.option(
    "--rate",
    type=click.IntRange(min=10),
    default=1_000,
    show_default=True,
    help="Events per second when latency is measured.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5, max=3_600),
    default=10.0,
    show_default=True,
    help="How long latency is measured, each time.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here, too."
)
def bench(**given: object) -> None:
    """Measure throughput and latency: the worker as `worker run` runs it, and a pipeline without model and state.

    Each contender reads the same events from a topic that was filled beforehand and writes its answers to a topic of
    its own; the times are the broker's. An answer that is missing or wrong ends the benchmark.

    Example: worker bench --client confluent --streams 100000 --cores 0
    """
    from worker.commands.bench.session import Options, run

    run(Options(**given), click.echo)  # type: ignore[arg-type]

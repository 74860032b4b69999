"""The play alone: watches that write readings to a topic of somebody's cluster, for a worker that runs elsewhere.

Rule of this file: it starts no broker and no worker, and deletes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError
from rich.console import Console

from worker.commands.demo.motions import load
from worker.commands.demo.player import Player
from worker.commands.demo.session import LONGEST_AGO_S, POLL_S, REACH_S, Interrupt
from worker.commands.demo.stage import CONNECT_TIMEOUT_S, PARTITIONS
from worker.commands.demo.wire import Writer
from worker.errors import WorkerError

LINE_S = 10.0


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """What the user asked for: ``events`` None = until it is told to stop."""

    bootstrap_servers: str
    topic: str
    events: int | None
    watches: int
    speed: float


def play(options: PlayOptions, console: Console) -> None:
    """Write readings until the events run out or a signal comes. Raises WorkerError when the cluster refuses.

    A topic that is not there is created. At speed 1 a reading has the time at which it is written.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # failures are raised
    with Interrupt().caught() as interrupt, contextlib.ExitStack() as stack:
        try:
            _create(options)
            writer = Writer(options.bootstrap_servers, options.topic)
            stack.callback(writer.close)
            interrupt.patient = True
            _play(_player(options, writer), options, interrupt, console)
        except KeyboardInterrupt:
            return
        except KafkaError as error:
            raise WorkerError(
                f"Kafka at {options.bootstrap_servers}: {options.topic} can't be written ({error}); check "
                "--bootstrap-servers and --play"
            ) from error


def _create(options: PlayOptions) -> None:
    timeout_ms = int(CONNECT_TIMEOUT_S * 1000)
    with (
        KafkaAdminClient(bootstrap_servers=options.bootstrap_servers, bootstrap_timeout_ms=timeout_ms) as admin,
        contextlib.suppress(TopicAlreadyExistsError),
    ):
        admin.create_topics({options.topic: {"num_partitions": PARTITIONS}}, wait_for_metadata=True)


def _player(options: PlayOptions, writer: Writer) -> Player:
    # Faster than real time, event time runs ahead of the clock, and Kafka refuses records from the future.
    ago_s = min(max(0.0, options.speed - 1.0) * REACH_S, LONGEST_AGO_S)
    start_ms = int((time.time() - ago_s) * 1000)
    return Player(
        load("TEST"), writer.send, time.monotonic, watches=options.watches, speed=options.speed, start_ms=start_ms,
        events=options.events,
    )  # fmt: skip


def _play(player: Player, options: PlayOptions, interrupt: Interrupt, console: Console) -> None:
    written, told_s = 0, time.monotonic()
    player.start()
    while player.is_alive() or player.sent:
        player.join(POLL_S)
        while player.sent:
            player.sent.popleft()
            written += 1
        player.answered = written  # nobody answers here
        if interrupt.wished:
            player.stop()
        if time.monotonic() - told_s >= LINE_S:
            told_s = time.monotonic()
            console.print(f"{written:,} readings written to {options.topic}", highlight=False, soft_wrap=True)
    if player.failure is not None:
        raise player.failure
    console.print(f"{written:,} readings of {options.watches} watches written to {options.topic}", highlight=False)

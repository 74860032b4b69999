"""One demonstration from start to end: Kafka, topics, the worker, the play, the outcome; down again in that order.

Rule of this file: the one place of the demonstration where its parts are put together.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from kafka.errors import KafkaError
from rich.console import Console

from worker.commands.demo.motions import load
from worker.commands.demo.page import page
from worker.commands.demo.player import Player
from worker.commands.demo.score import Scoreboard, parse_output
from worker.commands.demo.stage import PARTITIONS, Names, WorkerProcess, topics
from worker.commands.demo.summary import Pace, progress_line, summary_lines
from worker.commands.demo.view import Board, Line, LineView, LiveView, Page, View
from worker.commands.demo.wire import Reader, Writer
from worker.errors import WorkerError

POLL_S = 0.05
STALL_TIMEOUT_S = 60.0  # no output for this long although events wait for theirs; a second Ctrl-C does not wait
REACH_S = 2 * 3600  # time that can be played before event time overtakes the clock
LONGEST_AGO_S = 6 * 24 * 3600  # below Kafka's usual retention of seven days


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for: ``events`` None = until Ctrl-C, ``bootstrap_servers`` None = a broker of our own."""

    bootstrap_servers: str | None
    events: int | None
    watches: int
    speed: float


class Interrupt:
    """SIGINT, SIGTERM and SIGHUP: raised at once while things are put up; during the play a wish first."""

    def __init__(self) -> None:
        self.patient = False
        self.wished = False

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.patient and not self.wished:
            self.wished = True
            return
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interrupt]:
        """Take the signals, and give them back."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]  # nohup stays nohup
        for number in taken:
            signal.signal(number, self._take)
        try:
            yield self
        finally:
            for number in taken:
                signal.signal(number, before[number])


def run(options: Options, console: Console) -> None:
    """Play until the events run out or the user ends it; then print the outcome.

    Raises WorkerError when something fails or an event did not get exactly one output.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its warnings would break into the page; failures are raised
    board = Scoreboard()
    with Interrupt().caught() as interrupt:
        try:
            _perform(options, console, board, interrupt)
        except KeyboardInterrupt:
            interrupt.wished = True
        except KafkaError as error:
            raise WorkerError(f"Kafka failed during the demonstration: {error}") from error
    if not board.events:
        console.print("ended before the first event")
        return
    summary = board.summary()
    for line in summary_lines(summary, Pace(options.watches, options.speed)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not summary.exact and not interrupt.wished:
        raise WorkerError("not every event got exactly one output, see above")


def opened_stage(
    stack: contextlib.ExitStack, view: View[Board], worker: WorkerProcess, names: Names, bootstrap_servers: str | None
) -> tuple[Reader, Writer]:
    """Topics, the running worker, and what reads its outputs and writes its events; the stack closes them.

    ``bootstrap_servers``: None starts a broker, too.
    """
    servers = bootstrap_servers or embedded(stack, view)
    with view.stage("creating topics"):
        stack.enter_context(topics(servers, names, keep=bootstrap_servers is None))
    with view.stage("starting the worker"):
        stack.enter_context(worker.running(servers, names))
        worker.wait_ready()
    reader = Reader(servers, names.probabilities, PARTITIONS)
    stack.callback(reader.close)
    writer = Writer(servers, names.readings)
    stack.callback(writer.close)
    return reader, writer


def _perform(options: Options, console: Console, board: Scoreboard, interrupt: Interrupt) -> None:
    names = Names.of(secrets.token_hex(4))
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(WorkerProcess())
        view = _view(options, console, worker.url)
        reader, writer = opened_stage(stack, view, worker, names, options.bootstrap_servers)
        player = _player(options, writer)
        stack.callback(player.stop)
        with view.playing():
            interrupt.patient = True
            player.start()
            _watch(player, reader, board, worker, view, interrupt)
        with view.stage("stopping the worker, counting its outputs"):
            worker.stop()
            _take(player, reader.rest(), board)


def embedded(stack: contextlib.ExitStack, view: View[Board]) -> str:
    """The servers of a broker that is started here, and ended with the stack."""
    from worker.kafka.embedded.broker import EmbeddedKafka

    with view.stage("starting Kafka"):
        return stack.enter_context(EmbeddedKafka()).bootstrap_servers


def _view(options: Options, console: Console, url: str) -> View[Scoreboard]:
    return opened_view(console, Pace(options.watches, options.speed), url, page, progress_line)


def opened_view(console: Console, pace: Pace, url: str, page: Page[Board], line: Line[Board]) -> View[Board]:
    """The page on a terminal, lines anywhere else."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(console, pace, f"Ctrl-C ends · {url}", page)
    return LineView(console, pace, line)


def _player(options: Options, writer: Writer) -> Player:
    # Played faster than it was measured, event time runs ahead of the clock, and Kafka refuses records from the future.
    ago_s = min(options.speed * REACH_S, LONGEST_AGO_S)
    return Player(
        load("TEST"),
        writer.send,
        time.monotonic,
        watches=options.watches,
        speed=options.speed,
        start_ms=int((time.time() - ago_s) * 1000),
        events=options.events,
    )


def _watch(
    player: Player,
    reader: Reader,
    board: Scoreboard,
    worker: WorkerProcess,
    view: View[Scoreboard],
    interrupt: Interrupt,
) -> None:
    """Read and show until all is answered. Raises WorkerError when the worker ends or falls silent."""
    answered, silent_since = 0, time.monotonic()
    while player.is_alive() or player.sent or board.lag_events:
        _take(player, reader.poll(POLL_S), board)
        now = time.monotonic()
        view.show(board, now)
        worker.check()
        if player.failure is not None:
            raise WorkerError(f"the readings can't be written to Kafka: {player.failure}")
        if board.outputs > answered or not board.lag_events:
            answered, silent_since = board.outputs, now
        if interrupt.wished:
            player.stop()
        if now - silent_since > STALL_TIMEOUT_S:
            silence = f"no output for {STALL_TIMEOUT_S:.0f} s although {board.lag_events:,} events wait for theirs"
            raise WorkerError(worker.with_log(silence))


def _take(player: Player, values: list[bytes], board: Scoreboard) -> None:
    """Tell the board first what was sent, then what came out: an event is known before its output."""
    now = time.monotonic()
    while player.sent:
        board.sent(player.sent.popleft())
    for value in values:
        board.seen(parse_output(value), now)
    player.answered = board.outputs

"""The demonstration of texts from start to end: the model, Kafka, topics, the worker, the play, the comparison.

Rule of this file: the one place where its parts are put together.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson
from kafka.errors import KafkaError
from rich.console import Console

from worker.commands.demo.session import POLL_S, STALL_TIMEOUT_S, Interrupt, opened_stage, opened_view
from worker.commands.demo.stage import Names, WorkerProcess
from worker.commands.demo.summary import Pace
from worker.commands.demo.texts.asking import Asking
from worker.commands.demo.texts.board import TextBoard, parse_item
from worker.commands.demo.texts.casts import Cast, cast_of, configuration
from worker.commands.demo.texts.proof import compare
from worker.commands.demo.texts.screen import outcome_lines, progress_of_texts, text_page
from worker.commands.demo.texts.training import Files, Task, trained
from worker.commands.demo.view import View
from worker.commands.demo.wire import Reader, Writer
from worker.errors import WorkerError
from worker.kafka.embedded.runtime import cache_folder

TRAINING_LINE_S = 5.0


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What the user asked for: ``events`` texts, None = until Ctrl-C.

    ``models``: the folder of trained models, None = where Kafka's files are kept; ``steps`` of training, None = enough.
    """

    task: Task
    bootstrap_servers: str | None
    events: int | None
    streams: int
    speed: float
    models: Path | None = None
    steps: int | None = None


def run(options: TextOptions, console: Console) -> None:
    """Play until the texts run out or the user ends it; then compare, and print the outcome.

    Raises WorkerError when something fails, an item is missing or repeated, or a text is not the model's own.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its warnings would break into the page; failures are raised
    cast = cast_of(options.task)
    board = TextBoard(cast.between, continues=cast.continues)
    with Interrupt().caught() as interrupt:
        try:
            files = _trained(options, console)
            _perform(options, cast, files, console, board, interrupt)
        except KeyboardInterrupt:
            interrupt.wished = True
        except KafkaError as error:
            raise WorkerError(f"Kafka failed during the demonstration: {error}") from error
    if not board.outputs:
        console.print("ended before the first text")
        return
    with console.status("comparing with the model alone"):
        compared = compare(options.task, files, {name: page.answers for name, page in board.pages.items()})
    for line in outcome_lines(board, compared):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if compared.same < compared.texts or (not board.exact and not interrupt.wished):
        raise WorkerError("not every text is the model's own, see above")


def _trained(options: TextOptions, console: Console) -> Files:
    """The model's files, of the cache or trained now, while it is told how far that is."""
    folder = options.models or cache_folder().parent / "demo-models"
    if console.is_terminal:
        with console.status("looking for the model") as status:
            return trained(options.task, folder, status.update, options.steps)
    told_s = 0.0

    def tell(words: str) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > TRAINING_LINE_S:
            told_s = time.monotonic()
            console.print(words, markup=False, highlight=False, soft_wrap=True)

    return trained(options.task, folder, tell, options.steps)


def _perform(
    options: TextOptions, cast: Cast, files: Files, console: Console, board: TextBoard, interrupt: Interrupt
) -> None:
    names = Names.of(secrets.token_hex(4), "prompts", "texts")
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(WorkerProcess(configure=partial(configuration, cast, files)))
        pace = Pace(options.streams, options.speed)
        view = opened_view(console, pace, worker.url, text_page, progress_of_texts)
        reader, writer = opened_stage(stack, view, worker, names, options.bootstrap_servers)
        with view.playing():
            interrupt.patient = True
            asking = Asking(cast, board, options.streams, options.speed, options.events)
            _watch(asking, writer, reader, board, worker, view, interrupt)
        with view.stage("stopping the worker, counting its outputs"):
            worker.stop()
            _take(reader.rest(), board)


def _watch(
    asking: Asking,
    writer: Writer,
    reader: Reader,
    board: TextBoard,
    worker: WorkerProcess,
    view: View[TextBoard],
    interrupt: Interrupt,
) -> None:
    """Ask, read and show until all is answered. Raises WorkerError when the worker ends or falls silent."""
    items, silent_since = 0, time.monotonic()
    while board.lag_events or not (asking.ended or interrupt.wished):
        for request in [] if interrupt.wished else asking.due(time.monotonic()):
            board.asked(request, time.monotonic())
            writer.send(request.stream.encode(), orjson.dumps(request.value), int(time.time() * 1000))
        _take(reader.poll(POLL_S), board)
        now = time.monotonic()
        view.show(board, now)
        worker.check()
        if board.items > items or not board.lag_events:
            items, silent_since = board.items, now
        if now - silent_since > STALL_TIMEOUT_S:
            silence = f"no output for {STALL_TIMEOUT_S:.0f} s although {board.lag_events:,} texts wait for theirs"
            raise WorkerError(worker.with_log(silence))


def _take(values: list[bytes], board: TextBoard) -> None:
    now = time.monotonic()
    for value in values:
        board.seen(parse_item(value), now)

"""The demonstration of texts: who asks when, what the board counts, what the page and the outcome say."""

from __future__ import annotations

import io
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from worker.commands.demo.stage import Names
from worker.commands.demo.summary import Pace
from worker.commands.demo.texts.asking import Asking
from worker.commands.demo.texts.board import Item, TextBoard, parse_item
from worker.commands.demo.texts.casts import Request, Translators, Writers, configuration
from worker.commands.demo.texts.proof import Compared
from worker.commands.demo.texts.screen import outcome_lines, progress_of_texts, text_page
from worker.commands.demo.texts.sources import reference, sentences
from worker.commands.demo.texts.training import Files
from worker.config import load_config

PACE = Pace(3, 4.0, elapsed_s=12.0, answered_per_s=7.0)
FILES = Files(Path("model.keras"), (Path("one.json"), Path("two.json")))


def board_of(*texts: tuple[str, str], between: str = "", continues: bool = True) -> TextBoard:
    """Each text is asked for at second 1 and comes item by item, the first of them a second later."""
    board = TextBoard(between, continues=continues)
    for stream, text in texts:
        board.asked(Request(stream, "go: ", {}), 1.0)
        items = text.split(between) if between else list(text)
        for number, item in enumerate(items):
            finish = "length" if number == len(items) - 1 else None
            board.seen(Item(stream, number, 5, item, finish), 2.0 + number)
    return board


def drawn(board: TextBoard, width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(text_page(board, PACE, width, height, "Ctrl-C ends"))
    return out.getvalue().rstrip("\n").split("\n")


def test_a_text_grows_by_its_items_and_continues() -> None:
    board = board_of(("writer-01", "abc"), ("writer-01", "de"))
    page = board.pages["writer-01"]
    assert (page.tail, page.items, page.texts, page.busy) == ("go: abcgo: de", 5, 2, False)
    assert [answer.tokens for answer in page.answers] == [[5, 5, 5], [5, 5]]
    assert (board.events, board.outputs, board.items, board.exact) == (2, 2, 5, True)
    assert board.latency_ms == pytest.approx(1000)


def test_a_translation_begins_anew_and_its_stop_item_is_no_word() -> None:
    board = board_of(("translator-01", "un deux"), between=" ", continues=False)
    board.asked(Request("translator-01", "three", {}), 5.0)
    board.seen(Item("translator-01", 0, 7, "trois", None), 6.0)
    board.seen(Item("translator-01", 1, None, "", "stop"), 7.0)
    page = board.pages["translator-01"]
    assert (page.tail, page.busy, page.items) == ("trois", False, 3)
    assert page.answers[1].tokens == [7]
    assert page.answers[1].finish == "stop"


def test_items_that_are_repeated_left_out_or_nobodys_are_counted() -> None:
    board = TextBoard("", continues=True)
    board.asked(Request("a", "", {}), 1.0)
    for number in (0, 0, 2):
        board.seen(Item("a", number, 1, "x", None), 2.0)
    board.seen(Item("b", 0, 1, "x", "length"), 2.0)
    assert (board.surplus, board.disordered, board.lag_events, board.exact) == (2, 1, 1, False)


def test_an_output_is_read() -> None:
    fields = {"stream": "a", "token": 3, "text": "d", "finish": "length", "source": {"topic": "t", "item": 4}}
    assert parse_item(json.dumps(fields).encode()) == Item("a", 4, 3, "d", "length")
    del fields["finish"]
    assert parse_item(json.dumps(fields | {"token": None}).encode()) == Item("a", 4, None, "d", None)


def test_a_stream_asks_again_when_it_has_its_text_and_not_too_fast() -> None:
    board = TextBoard("", continues=True)
    asking = Asking(Writers(), board, streams=2, speed=1.0, events=3)

    def asked(at_s: float) -> list[str]:
        names = []
        for request in asking.due(at_s):
            board.asked(request, at_s)
            names.append(request.stream)
        return names

    assert asked(10.0) == ["writer-01"]
    assert asked(11.0) == ["writer-02"]
    assert asked(13.0) == [], "the first text is not complete"
    board.seen(Item("writer-01", 0, 1, "x", "length"), 13.0)
    assert not asking.ended
    assert asked(13.5) == ["writer-01"]
    assert asking.ended
    board.seen(Item("writer-02", 0, 1, "x", "length"), 14.0)
    assert asked(20.0) == []


def test_requests_are_the_same_on_every_run_and_fit_the_vocabulary() -> None:
    characters, english = set(reference().characters), set(sentences().english)
    first, second = islice(Writers().requests("writer-01", 0), 2)
    assert (first.value["text"], "text" in second.value) == (first.text, False)
    for number in range(20):
        assert set(next(Writers().requests("w", number)).text) <= characters
        taken = [request.text for request in islice(Translators().requests("t", number), 50)]
        assert taken == [request.text for request in islice(Translators().requests("t", number), 50)]
        assert {word for text in taken for word in text.split()} <= english


def test_pairs_are_padded_between_start_and_stop() -> None:
    pairs = sentences()
    assert pairs.french[:3] == ["<padding>", "<start>", "<stop>"]
    assert (pairs.targets[:, 0] == 1).all()
    assert ((pairs.targets == 2).sum(axis=1) == 1).all()
    assert (np.sort(pairs.targets != 0, axis=1)[:, ::-1] == (pairs.targets != 0)).all(), "padding comes last"


@pytest.mark.parametrize("cast", [Writers(), Translators()])
def test_the_configuration_is_one_that_a_user_could_write(cast: Writers | Translators, tmp_path: Path) -> None:
    written = configuration(cast, FILES, "localhost:9092", Names.of("0f", "prompts", "texts"), tmp_path, 20_001)
    (tmp_path / "worker.yaml").write_text(json.dumps(written))
    config = load_config(tmp_path / "worker.yaml", {})
    assert (config.model.task, config.output.emit) == (cast.task, "every_item")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
@pytest.mark.parametrize("streams", [0, 1, 16, 60])
def test_the_page_fits_the_terminal(width: int, height: int, streams: int) -> None:
    board = board_of(*((f"writer-{number:02d}", "so\nit is written " * 30) for number in range(1, streams + 1)))
    lines = drawn(board, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert sum(line.startswith("writer-") for line in lines) == min(streams, height - 6)
    assert any(f"and {streams - height + 6} more" in line for line in lines) == (streams > height - 6)


def test_a_text_is_shown_to_its_end_and_a_translation_from_its_beginning() -> None:
    (line,) = [line for line in drawn(board_of(("writer-01", "x" * 100 + " the end")), 80, 24) if "writer-01" in line]
    assert line.rstrip().endswith("the end")
    board = board_of(("translator-01", "un deux"), between=" ", continues=False)
    (line,) = [line for line in drawn(board, 80, 24) if "translator-01" in line]
    assert line.rstrip().endswith("go:  → un deux")


def test_the_outcome_says_what_was_right_and_what_was_not() -> None:
    board = board_of(("writer-01", "abc"), ("writer-02", "de"))
    lines = outcome_lines(board, Compared(2, 2))
    assert lines[0] == "2 texts asked for: each came whole, each item once and in order"
    assert lines[2] == "as the model writes alone, from Python: 2 of 2 (100.0 %) of the texts"
    assert lines[-2:] == ["  go: abc", "  go: de"]
    assert "texts 2 of 2  items 5" in progress_of_texts(board, PACE)
    board.seen(Item("writer-01", 0, 1, "x", None), 9.0)
    assert outcome_lines(board, Compared(2, 1))[0] == "2 texts asked for: NOT right: 1 items too many"

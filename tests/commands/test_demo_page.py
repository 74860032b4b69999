"""The page and the summary: a score in, what a user reads out."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from worker.commands.demo.page import bar, page
from worker.commands.demo.player import Sent
from worker.commands.demo.score import Output, Scoreboard
from worker.commands.demo.summary import Pace, progress_line, summary_lines
from worker.commands.demo.view import LineView, LiveView

PACE = Pace(watches=40, speed=4.0, elapsed_s=12.0, sent_per_s=1600.0, answered_per_s=1590.0)


def answered(watches: int, steps: int, wrong: int = 0, last: bool = False) -> Scoreboard:
    """A board on which every watch stands; the first ``wrong`` steps of each are answered with walking."""
    board = Scoreboard()
    for step in range(1, steps + 1):
        for number in range(1, watches + 1):
            name = f"watch-{number:0{max(2, len(str(watches)))}d}"
            board.sent(Sent(name, f"{name}-1", "standing", step, step / 10))
            chances = (0.1, 0.1, 0.7, 0.1) if step <= wrong else (0.85, 0.05, 0.05, 0.05)
            label = "walking" if step <= wrong else "standing"
            board.seen(Output(f"{name}-1", step, label, chances, last and step == steps), step / 10 + 0.02)
    return board


def drawn(board: Scoreboard, width: int, height: int) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    console.print(page(board, PACE, width, height, "Ctrl-C ends · http://127.0.0.1:20001/"))
    return out.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (0.03, "▏   "), (0.72, "██▉ ")]
)
def test_a_bar_is_drawn_in_eighths_of_a_column(share: float, text: str) -> None:
    assert bar(share, 4) == text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (200, 60)])
@pytest.mark.parametrize("watches", [0, 1, 40, 120, 1000])
def test_the_page_fits_the_terminal_and_shows_as_many_watches_as_there_is_room(
    width: int, height: int, watches: int
) -> None:
    lines = drawn(answered(watches, 3), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    shown = sum(line.startswith("watch-") for line in lines)
    assert shown == min(watches, height - 8)
    assert not any("…" in line for line in lines if line.startswith("watch"))
    assert any(f"and {watches - shown} more watches" in line for line in lines) == (watches > shown)


def test_a_row_says_step_answer_probability_truth_and_since_when_it_is_right() -> None:
    lines = drawn(answered(3, 34, wrong=11), 80, 24)
    row = next(line for line in lines if line.startswith("watch-02"))
    assert row.split()[:4] == ["watch-02", "34/100", "standing", "85%"]
    assert row.split()[-6:] == ["standing", "✓", "12", "·", "1.2", "s"]


def test_a_wrong_answer_is_marked_and_claims_no_since() -> None:
    row = next(line for line in drawn(answered(1, 5, wrong=5), 80, 24) if line.startswith("watch-01"))
    assert row.split()[2] == "walking"
    assert row.split()[-3:] == ["standing", "✗", "—"]


def test_the_page_says_rates_lag_and_score() -> None:
    board = answered(2, 100, wrong=3, last=True)
    board.sent(Sent("watch-01", "watch-01-2", "running", 1, 10.1))
    text = "\n".join(drawn(board, 80, 24))
    assert "in 1,600/s  out 1,590/s" in text
    assert "events 201  behind 1 · 20 ms  right at the end 2 of 2 (100.0 %)" in text
    assert "stand 2/2" in text
    assert "right since step 4 (0.4 s) (median)" in text


def test_the_summary_says_all_that_was_asked() -> None:
    text = "\n".join(summary_lines(answered(4, 100, wrong=12, last=True).summary(), PACE))
    assert "400 events, 400 outputs: exactly one output per event, in order" in text
    assert "9.9 s, 40 events/s (asked for: 40 watches × 10 Hz × 4 = 1,600/s)" in text
    assert "20 ms from event sent to output read" in text
    assert "4 sequences finished, played from the 40 recordings" in text
    assert "right at the last step: 4 of 4 (100.0 %)" in text
    assert "right, and right from then on, since step 13 (1.3 s) (median)" in text
    assert "right after step 10: 0 %, 25: 100 %, 50: 100 %, 100: 100 %" in text
    assert "standing          4        4  step 13 (1.3 s)" in text
    assert "running           0        0  —" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_summary_names_what_is_missing_too_many_or_out_of_order() -> None:
    board = answered(1, 3)
    board.sent(Sent("watch-01", "watch-01-1", "standing", 4, 0.4))
    board.seen(Output("watch-01-1", 2, "standing", (1.0,) * 4, False), 0.5)
    text = "\n".join(summary_lines(board.summary(), PACE))
    assert "4 events, 3 outputs: NOT one output per event: 1 missing, 1 too many" in text


def test_lines_come_at_their_interval_and_say_the_rate() -> None:
    out = io.StringIO()
    view, board = LineView(Console(file=out, width=60, force_terminal=False), Pace(1, 4.0), progress_line), Scoreboard()
    with view.stage("starting the worker"), view.playing():
        for tenth in range(50):
            board.sent(Sent("w", "w-1", "standing", tenth + 1, tenth / 10))
            board.seen(Output("w-1", tenth + 1, "standing", (1.0, 0.0, 0.0, 0.0), False), tenth / 10)
            view.show(board, tenth / 10)
    lines = out.getvalue().splitlines()
    assert lines[0] == "starting the worker"
    assert [line.split(" s")[0].strip() for line in lines[1:]] == ["2.0", "4.0"]
    assert "sent 21 (10/s)  answered 21 (10/s)  behind 0 events, 0 ms" in lines[1]
    assert progress_line(board, PACE).startswith(" 12.0 s  sent 50 (1,600/s)")


def test_the_live_page_gives_the_screen_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")  # whatever the tests run in
    out = io.StringIO()
    view = LiveView(Console(file=out, width=80, height=24, force_terminal=True), PACE, "Ctrl-C ends", page)
    board = answered(1, 3)
    with view.playing():
        view.show(board, 0.0)
        view.show(board, 1.0)
    text = out.getvalue()
    assert "\x1b[?1049h" in text
    assert "watch-01" in text
    assert text.rindex("\x1b[?1049l") > text.rindex("watch-01")

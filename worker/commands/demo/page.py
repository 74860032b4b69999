"""The live page: what each watch does, what the worker says about it, and since when that has been right.

Rule of this file: the score in, something that rich can print out; as many watches as the terminal has lines for.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.commands.demo.motions import LABELS, RATE_HZ, STEPS
from worker.commands.demo.score import Play, Scoreboard, median_of
from worker.commands.demo.summary import Pace, latency_words, share_words, since_words

COLOURS = {"standing": "cyan", "running": "magenta", "walking": "yellow", "badminton": "blue"}
SHORT = {"standing": "stand", "running": "run", "walking": "walk", "badminton": "badm"}
BLOCKS = " ▏▎▍▌▋▊▉█"
LEAST_BAR = 5  # columns
WIDEST_BAR = 14
OTHER_COLUMNS = 58  # what the columns beside the bars take, with the gaps
OTHER_LINES = 8  # lines above and below the watches


def bar(share: float, width: int) -> str:
    """``share`` of ``width`` columns, in eighths of a column."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + (BLOCKS[rest] if rest else "")).ljust(width)


def page(board: Scoreboard, pace: Pace, width: int, height: int, footer: str = "") -> RenderableType:
    """The whole page for a terminal of ``width`` × ``height``."""
    plays = [board.shown[watch] for watch in sorted(board.shown)]
    room = max(1, height - OTHER_LINES)
    return Group(
        *_header(board, pace),
        Text(),
        _watches(plays[:room], width),
        Text(),
        _classes(board, hidden=len(plays) - room),
        _footer(board, footer),
    )


def _header(board: Scoreboard, pace: Pace) -> Sequence[Text]:
    first = Text.assemble(
        ("rnn-stream-worker", "bold"),
        f"  {pace.words}",
        ("  in ", "dim"),
        f"{pace.sent_per_s:,.0f}/s",
        ("  out ", "dim"),
        f"{pace.answered_per_s:,.0f}/s",
        (f"  {pace.elapsed_s:,.0f} s", "dim"),
    )
    finished = sum(score.finished for score in board.classes.values())
    right = sum(score.right for score in board.classes.values())
    second = Text.assemble(
        ("events ", "dim"),
        f"{board.events:,}",
        ("  behind ", "dim"),
        f"{board.lag_events:,} · {latency_words(board.latency_ms)}",
        ("  right at the end ", "dim"),
        share_words(right, finished),
    )
    for line in (first, second):
        line.no_wrap, line.overflow = True, "ellipsis"
    return first, second


def _watches(plays: Sequence[Play], width: int) -> Table:
    bars = max(LEAST_BAR, min(WIDEST_BAR, (width - OTHER_COLUMNS) // len(LABELS)))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("watch", no_wrap=True)
    table.add_column("step", width=6, justify="right", no_wrap=True)
    table.add_column("answer", width=9, no_wrap=True)
    table.add_column("", width=4, justify="right", no_wrap=True)
    for label in LABELS:
        table.add_column(Text(SHORT[label], style=COLOURS[label]), width=bars, no_wrap=True)
    table.add_column("truth", width=9, no_wrap=True)
    table.add_column("", width=1)
    table.add_column("right since", width=11, no_wrap=True)
    for play in plays:
        table.add_row(*_row(play, bars))
    return table


def _row(play: Play, bars: int) -> list[RenderableType]:
    right = play.label == play.truth
    since = "—" if play.right_since is None else f"{play.right_since:3d} · {play.right_since / RATE_HZ:.1f} s"
    return [
        play.watch,
        f"{play.step}/{STEPS}",
        Text(play.label, style=COLOURS[play.label]),
        f"{100 * max(play.probabilities):.0f}%",
        *(
            Text(bar(share, bars), style=COLOURS[label])
            for label, share in zip(LABELS, play.probabilities, strict=True)
        ),
        Text(play.truth, style=COLOURS[play.truth]),
        Text("✓", style="green") if right else Text("✗", style="red"),
        Text(since, style="" if right else "dim"),
    ]


def _classes(board: Scoreboard, hidden: int) -> Text:
    line = Text("right ", style="dim", no_wrap=True, overflow="ellipsis")
    for label, score in board.classes.items():
        line.append(f" {SHORT[label]} ", style=COLOURS[label])
        line.append(f"{score.right:,}/{score.finished:,} ", style="default")
    if hidden > 0:
        line.append(f"  and {hidden} more watches", style="dim")
    return line


def _footer(board: Scoreboard, words: str) -> Text:
    since = since_words(median_of(board.summary().since))
    return Text.assemble(
        ("right since ", "dim"), since, (f" (median) · {words}", "dim"), no_wrap=True, overflow="ellipsis"
    )

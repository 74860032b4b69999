"""How texts are shown while they are written, and the outcome in words.

Rule of this file: the board in, something that rich can print, or lines, out.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.commands.demo.summary import Pace, latency_words, share_words
from worker.commands.demo.texts.board import Page, TextBoard
from worker.commands.demo.texts.proof import Compared

OTHER_LINES = 6  # lines above and below the streams
NAME_COLUMNS, COUNT_COLUMNS = 14, 6
LEAST_TEXT = 20  # columns
SAMPLES, SAMPLE_COLUMNS = 6, 76
CONTROL = str.maketrans({"\n": " ", "\t": " "})


def text_page(board: TextBoard, pace: Pace, width: int, height: int, footer: str = "") -> RenderableType:
    """The whole page for a terminal of ``width`` × ``height``."""
    names = sorted(board.pages)
    room = max(1, height - OTHER_LINES)
    hidden = f"and {len(names) - room} more · " if len(names) > room else ""
    below = Text(hidden + footer, style="dim", no_wrap=True, overflow="ellipsis")
    return Group(_header(board, pace), Text(), _streams(board, names[:room], width), Text(), below)


def _header(board: TextBoard, pace: Pace) -> Text:
    line = Text.assemble(
        ("rnn-stream-worker", "bold"),
        ("  texts ", "dim"),
        f"{board.outputs:,} of {board.events:,} ({pace.answered_per_s:,.0f}/s)",
        ("  items ", "dim"),
        f"{board.items:,}",
        ("  first item after ", "dim"),
        latency_words(board.latency_ms),
        (f"  {pace.elapsed_s:,.0f} s", "dim"),
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _streams(board: TextBoard, names: list[str], width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.add_column("stream", width=NAME_COLUMNS, no_wrap=True)
    table.add_column("items", width=COUNT_COLUMNS, justify="right", no_wrap=True)
    rest = max(LEAST_TEXT, width - NAME_COLUMNS - COUNT_COLUMNS - 3)
    table.add_column("text", no_wrap=True, overflow="crop")
    for name in names:
        table.add_row(name, f"{board.pages[name].items:,}", _written(board.pages[name], board.continues, rest))
    return table


def _written(page: Page, continues: bool, width: int) -> Text:
    """The end of the text, in ``width`` columns; of a translation its beginning, after the sentence."""
    cursor = "▌" if page.busy else ""
    tail = page.tail.translate(CONTROL)
    if continues:
        return Text(tail[-(width - 1) :] + cursor)
    line = Text(f"{page.request.text} → ", style="dim")
    line.append(tail + cursor, style="default")
    line.truncate(width, overflow="ellipsis")
    return line


def progress_of_texts(board: TextBoard, pace: Pace) -> str:
    """One line every few seconds where there is no terminal."""
    return (
        f"{pace.elapsed_s:5.1f} s  texts {board.outputs:,} of {board.events:,}  items {board.items:,}  "
        f"first item after {latency_words(board.latency_ms)}"
    )


def outcome_lines(board: TextBoard, compared: Compared) -> list[str]:
    """The whole outcome: figures, the comparison, and a text of each stream, as it is."""
    rate = board.items / board.seconds if board.seconds else 0.0
    faults = [(board.lag_events, "texts incomplete"), (board.surplus, "items too many")]
    faults += [(board.disordered, "items out of order")]
    verdict = ", ".join(f"{count:,} {words}" for count, words in faults if count)
    samples = [board.pages[name] for name in sorted(board.pages)][:SAMPLES]
    return [
        f"{board.events:,} texts asked for: "
        + (f"NOT right: {verdict}" if verdict else "each came whole, each item once and in order"),
        f"{board.items:,} items in {board.seconds:,.1f} s, {rate:,.0f} items/s; "
        f"the first item {latency_words(board.latency_ms)} after asking (median)",
        f"as the model writes alone, from Python: {share_words(compared.same, compared.texts)} of the texts",
        "",
        *("  " + _sample(page, board.continues) for page in samples),
    ]


def _sample(page: Page, continues: bool) -> str:
    """A translation, or the end of what has been written, from the beginning of a word."""
    if not continues:
        return _written(page, continues, SAMPLE_COLUMNS).plain
    words = page.tail.split()
    text = " ".join(words)
    return text if len(text) <= SAMPLE_COLUMNS else "… " + text[-SAMPLE_COLUMNS:].partition(" ")[2]

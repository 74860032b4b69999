"""How the commands print what they have found: a label and words beside it, tables in columns."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from worker.commands.problems import Problem

LABEL_COLUMNS = 12
NARROWEST_COLUMNS, WIDEST_COLUMNS = 60, 120

Lines: TypeAlias = Iterator[tuple[str, str]]  # a label and what stands beside it


def page(lines: Iterable[tuple[str, str]]) -> str:
    """Labels in one column, words in the other."""
    return "\n".join(line for label, words in lines for line in _wrapped(label, words))


def table(label: str, rows: Sequence[tuple[str, ...]], right: bool = False) -> Lines:
    """Rows of equally many cells, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [f"{cell:>{w}}" if right else f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)]
        yield label if number == 0 else "", "  ".join(cells).rstrip()


def findings(problems: Iterable[Problem]) -> Lines:
    """What is wrong with a model, where, and what to do instead."""
    for problem in problems:
        yield "refused", problem.what
        if problem.instead:
            yield "instead", problem.instead


def rounded(number: float) -> str:
    """Two significant digits: measurements and estimates are no more exact."""
    return f"{int(float(f'{number:.2g}')):,}"


def _wrapped(label: str, words: str) -> list[str]:
    """Sentences are broken on a terminal only, rows of tables nowhere: in a file, grep finds them whole."""
    line = f"{label:<{LABEL_COLUMNS}}{words}"
    if not sys.stdout.isatty() or "  " in words:
        return [line]
    columns = min(max(shutil.get_terminal_size().columns, NARROWEST_COLUMNS), WIDEST_COLUMNS)
    return textwrap.wrap(
        line, columns, subsequent_indent=" " * LABEL_COLUMNS, break_long_words=False, break_on_hyphens=False
    )

"""Pages can be read in a terminal and compared line by line: prose has at most 120 columns.

Tables, blocks of code and what a program writes between its two markers are as wide as they must be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = 120
FOLDERS = ("docs", "worker", "benchmarks", "examples", "deploy", ".github")
FENCE = re.compile(r"^\s*(```|~~~)")
BEGIN = re.compile(r"^<!-- (?:.+: begin|\w+: made by .*) -->$")
END = re.compile(r"^<!-- (?:.+: end|/\w+) -->$")


def pages() -> list[Path]:
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *below])


def prose(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of what a person has written outside tables and code."""
    code = made = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            code = not code
            continue
        made = (made or bool(BEGIN.match(line))) and not END.match(line)
        if not code and not made and not line.lstrip().startswith(("|", "<!--")):
            yield number, line


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_is_wrapped(page: Path) -> None:
    long = [f"line {number}: {len(line)} columns" for number, line in prose(page.read_text()) if len(line) > COLUMNS]
    assert long == [], f"wrap at {COLUMNS} columns"


def test_prose_is_told_from_the_rest() -> None:
    made = ["<!-- report: begin -->", "d", "<!-- report: end -->", "<!-- e: made by f.py -->", "g", "<!-- /e -->"]
    page = "\n".join(["a", "```", "b", "```", "| c |", *made, "h"])
    assert list(prose(page)) == [(1, "a"), (12, "h")]

"""docs/design.md marks what must always hold: the file that keeps it and the test that holds it are there.

And its picture of the rooms is drawn from the law: whoever sees another stands above it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.law import EVERYTHING, LAW

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "design.md").read_text()
MARKED = re.compile(r"^- \*\*Invariant:\*\*(.*?)(?=^- |^$)", re.DOTALL | re.MULTILINE)
INVARIANTS = [" ".join(found.split()) for found in MARKED.findall(PAGE)]
(PICTURE,) = re.findall(r"^```\n(┌.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("line", INVARIANTS, ids=lambda line: line[:40])
def test_what_keeps_it_and_what_holds_it_are_there(line: str) -> None:
    said = re.fullmatch(r"(.+?)\. Kept by `([\w/.]+)`, ((?:`[\w.]+`(?:, )?)+); held by (.+)\.", line)
    assert said, "an invariant is: what. Kept by `file`, `name`; held by `file::test`."
    keeper = (ROOT / said[2]).read_text()
    for name in re.findall(r"`([\w.]+)`", said[3]):
        assert all(re.search(rf"\b{part}\b", keeper) for part in name.split(".")), f"{name} is not in {said[2]}"
    tests = re.findall(r"`([\w/.]+)::(\w+)`", said[4])
    assert tests
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_every_marked_line_is_looked_at() -> None:
    assert len(INVARIANTS) == PAGE.count("**Invariant:**") > 10


def test_the_picture_is_drawn_from_the_law() -> None:
    rows = PICTURE.splitlines()
    assert len({len(row) for row in rows}) == 1
    drawn = {name: at for at, row in enumerate(rows) for name in re.findall(r"[│┤·] (\w+)\b", row) if name in LAW}
    assert set(drawn) == set(LAW)
    below = {room: set(LAW) - {room} if law.sees == EVERYTHING else law.sees.split() for room, law in LAW.items()}
    wrong = [(room, name) for room, seen in below.items() for name in seen if drawn[room] >= drawn[name.split(".")[0]]]
    assert wrong == []

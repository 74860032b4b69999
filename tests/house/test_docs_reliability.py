"""The table of faults in docs/reliability.md is whole, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()
FILES = {path.stem: path for path in (ROOT / "tests").rglob("test_*.py")}
ROW = re.compile(r"^\| (F\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
NAMED = re.compile(r"`(test_\w+)?(?:\.(test_\w+))?`")


def test_every_fault_has_its_row_and_what_covers_it() -> None:
    rows = ROW.findall(PAGE)
    assert [name for name, _, _ in rows] == [f"F{number}" for number in range(1, 54)]
    assert [name for name, _, covered in rows if "test_" not in covered and "the same" not in covered] == ["F40"]


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for line in PAGE.splitlines():
        module = ""
        for file, name in NAMED.findall(line):
            module = file or module
            if not file and not name:
                continue
            path = FILES.get(module)
            if path is None or (name and f"def {name}(" not in path.read_text()):
                missing.append(f"{module}.{name}")
    assert missing == []

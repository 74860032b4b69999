"""Pages lead somewhere: every link, every heading behind ``#``, and every file of the repository that is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.test_prose import pages

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^\s*```.*?^\s*```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(
    r"(?<![\w/.-])((?:worker|tests|docs|config|benchmarks|examples|deploy|\.github)/[\w./-]*\w)(?:::(\w+))?"
)


def anchors(page: Path) -> set[str]:
    """The headings as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        place, _, anchor = target.partition("#")
        file = page.parent / place if place else page
        if "://" in target or target.startswith("mailto:"):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(target)
    assert wrong == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    text = " ".join(page.read_text().split())
    wrong = []
    for file, name in NAMED.findall(text):
        path = ROOT / file
        if not path.exists() or (name and f"def {name}(" not in path.read_text()):
            wrong.append(f"{file}::{name}" if name else file)
    assert wrong == []

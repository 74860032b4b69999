"""The house rules as tests: how long functions and modules may be, how light the command line is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "worker"
FUNCTION_LINES = 40
MODULE_LINES = 250


def modules() -> list[Path]:
    return sorted(path for path in WORKER.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(WORKER).with_suffix("").parts).removesuffix(".__init__") or "__init__"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_lengths(path: Path) -> None:
    source = path.read_text()
    lines = source.count("\n")
    assert lines <= MODULE_LINES, f"{name_of(path)}: {lines} lines, above {MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines, above {FUNCTION_LINES}"


def test_nothing_has_a_name_that_says_nothing() -> None:
    words = {"utils", "util", "core", "common", "helpers", "helper", "manager", "base", "misc"}
    found = [name for name in map(name_of, modules()) if words & set(re.split(r"[._]", name))]
    assert found == []


def test_help_needs_no_heavy_import() -> None:
    heavy = ["tensorflow", "keras", "kafka", "confluent_kafka", "h5py", "rich", "pydantic", "numpy"]
    program = f"import sys, worker.__main__; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert answer.stdout.strip() == "[]"


def test_the_tree_names_no_machine_and_no_registry_host() -> None:
    # Spelt in pieces, so that this file does not find itself.
    words = ["/" + "root/", "/" + "work/", "pypi" + ".org", "python" + "hosted", "repo1" + ".maven"]
    files = [
        *WORKER.rglob("*"),
        *(ROOT / "config").rglob("*"),
        *(ROOT / "docs").rglob("*"),
        *(ROOT / "examples").rglob("*"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / ".github").rglob("*"),
        *ROOT.glob("*.md"),
    ]
    found = [
        f"{path}: {word}"
        for path in files
        if path.is_file() and path.suffix in (".py", ".md", ".yaml", ".yml", ".json", ".txt", ".toml")
        for word in words
        if word in path.read_text()
    ]
    assert found == []

"""The house rules as tests: who may import whom, and how long functions and modules may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "worker"
FUNCTION_LINES = 40
MODULE_LINES = 250

PURE = (
    "records", "id_numbers", "errors",
    "engine", "placement", "runs", "streams", "members", "rows", "free_rows", "spare",
    "boundaries", "emission", "event_time", "commanded", "partition_streams", "silence", "idle", "doubles", "turns",
    "backlog", "fitting", "refused_items", "pipeline", "model", "codecs",
)  # fmt: skip
FILES = {
    "model.files.loading",
    "model.files.archives",
    "model.files.foreign",
    "model.files.weights",
    "model.backend",
    "model.streaming",
}  # of the pure part, these read model files
EDGES = ("kafka", "checkpoints", "web", "config")
SEE_BOTH = (
    "loop", "intake", "setbacks", "membership", "delivery", "states", "limits", "__main__", "service", "reporter",
    "recovery", "beyond", "processor", "engine_counts", "record_counts", "starts", "repartition", "partitions",
    "assembly", "ports", "stopping",
    "checking", "advice", "capacity", "exporting", "commands", "demo", "replay", "bench", "probing",
    "feature_order", "input_fields",
)  # fmt: skip
CLIENTS = {
    "kafka",
    "confluent_kafka",
    "h5py",
    "prometheus_client",
    "yaml",
    "http",
    "socket",
    "logging",
    "click",
    "rich",
}
CLOCKS = {"time", "threading", "asyncio", "subprocess", "random"}
OPEN_FILES = {"os", "pathlib", "io", "shutil", "tempfile", "zipfile"}


def modules() -> list[Path]:
    return sorted(path for path in WORKER.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(WORKER).with_suffix("").parts).removesuffix(".__init__") or "__init__"


def imports(path: Path) -> Iterator[str]:
    """Every module imported at run time, also inside functions; not what is only there for type checkers."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def part_of(module: str) -> str:
    """The first name below worker."""
    return module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports(path: Path) -> None:
    name, part = name_of(path), part_of(name_of(path))
    assert part in (*PURE, *EDGES, *SEE_BOTH, "__init__", "logs", "bounded"), f"{name}: say where it belongs"
    for imported in imports(path):
        top = imported.split(".")[0]
        inner = part_of(imported.removeprefix("worker.")) if top == "worker" and imported != "worker" else None
        if part in PURE:
            allowed_here = OPEN_FILES | {"h5py"} if name in FILES else set()
            assert top not in (CLIENTS | CLOCKS | OPEN_FILES) - allowed_here, f"{name} is pure and imports {imported}"
            assert inner is None or inner in PURE, f"{name} is pure and imports {imported}"
        if part in EDGES:
            allowed = (part, "records", "errors", "bounded")
            assert inner is None or inner in allowed, f"{name} is an edge and imports {imported}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_lengths(path: Path) -> None:
    source = path.read_text()
    lines = source.count("\n")
    assert lines <= MODULE_LINES, f"{name_of(path)}: {lines} lines, above {MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{name_of(path)}: {node.name} has {length} lines, above {FUNCTION_LINES}"


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
        *(ROOT / "tests").rglob("*.py"),
    ]
    found = [
        f"{path}: {word}"
        for path in files
        if path.is_file() and path.suffix in (".py", ".md", ".yaml", ".json", ".txt", ".toml")
        for word in words
        if word in path.read_text()
    ]
    assert found == []

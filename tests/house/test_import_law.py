"""Who imports whom: the table in law.py holds, the design page shows the same, and every name comes from its home."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.law import EVERYTHING, LAW, ONLY_HERE, WORLD, Room

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "worker"
DOORS = ("worker", "worker.model.backend")  # the public names, and Keras as it was imported with care
ENTRANCES = ("__init__", "__main__")  # what users import and type: they see what they show


def modules() -> list[Path]:
    return sorted(WORKER.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(WORKER).with_suffix("").parts).removesuffix(".__init__") or "__init__"


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of all that is imported at run time, also inside functions; name "" for ``import module``.

    What is only there for type checkers is left out.
    """
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in skipped:
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node not in skipped:
            assert node.level == 0, f"{path}: imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def broken(name: str, module: str, law: Room) -> str | None:
    """What the law says against this import in the module ``name``; None when nothing."""
    room, top = name.split(".")[0], module.split(".")[0]
    if top == "worker":
        inner = module.removeprefix("worker").lstrip(".")
        seen = {room, *law.sees.split()}
        known = not inner or law.sees == EVERYTHING or inner.split(".")[0] in seen or inner in seen
        return None if known else f"{name} imports {module}: {room} sees only {law.sees or 'nothing'}"
    for kind in (kind for kind, packages in WORLD.items() if top in packages):
        if law.touches != EVERYTHING and kind not in law.touches.split():
            return f"{name} imports {module}: {room} doesn't touch {kind}"
        if room == "model" and kind in ONLY_HERE and name not in ONLY_HERE[kind]:
            return f"{name} imports {module}: only {', '.join(ONLY_HERE[kind])} touch {kind}"
    return None


@pytest.mark.parametrize("path", [path for path in modules() if name_of(path) not in ENTRANCES], ids=name_of)
def test_the_law_of_imports(path: Path) -> None:
    name = name_of(path)
    law = LAW.get(name.split(".")[0])
    assert law is not None, f"{name}: which room is it in? tests/house/law.py lists them"
    found = [problem for module, _ in imports(path) if (problem := broken(name, module, law))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("engine.turns", "worker.codecs.fields", "engine sees only records streams"),
        ("streams.rows", "worker.engine.turns", "streams sees only records"),
        ("engine.turns", "logging", "engine doesn't touch logs"),
        ("codecs.times", "time", "codecs doesn't touch time"),
        ("member.loop", "worker.kafka.opening", "member sees only"),
        ("model.graph", "tensorflow", "only model.backend"),
        ("web.server", "worker.config", "web sees only"),
    ],
)
def test_the_law_finds_what_breaks_it(name: str, module: str, said: str) -> None:
    assert said in (broken(name, module, LAW[name.split(".")[0]]) or "")


def test_no_room_sees_one_that_sees_it() -> None:
    order: list[str] = []
    while len(order) < len(LAW):
        free = [
            room
            for room, law in LAW.items()
            if room not in order and ({each.split(".")[0] for each in law.sees.split()} <= {*order, EVERYTHING})
        ]
        assert free, f"a circle among {set(LAW) - set(order)}"
        order += free


def test_the_design_page_shows_the_law() -> None:
    rows = [f"| `{room}` | {law.holds} | {law.sees or 'nothing'} | {law.touches} |" for room, law in LAW.items()]
    page = (ROOT / "docs" / "design.md").read_text()
    assert "\n".join(rows) in page, "docs/design.md, Rooms: the table should be\n" + "\n".join(rows)


def defined(body: list[ast.stmt]) -> Iterator[str]:
    """The names that a module's own statements make."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from defined(node.body)


def test_every_name_is_imported_from_its_home() -> None:
    homes = {f"worker.{name_of(path)}".removesuffix(".__init__"): path for path in modules()}
    names = {module: set(defined(ast.parse(path.read_text()).body)) for module, path in homes.items()}
    folders = ("worker", "tests", "benchmarks", "examples")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in files
        for module, name in imports(path)
        if name
        and module in homes
        and module not in DOORS
        and name not in names[module]
        and f"{module}.{name}" not in homes
    ]
    assert found == []

"""Every code that a record can be refused with is in the list, so that its counter begins at 0."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from worker.records.refusal_errors import REFUSAL_ERRORS

WORKER = Path(__file__).parents[2] / "worker"
ROOMS = ("codecs", "engine", "pipeline", "records")
MAKERS = {"UnusableError", "Refusal", "refuse", "by_record"}
CONSTANTS = {"MODEL_ERROR", "INVALID_STATE", "TOO_LARGE", "REFUSED"}
CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for file in sorted((WORKER / room).rglob("*.py")):
            if file.name != "refusal_errors.py":
                yield file, ast.parse(file.read_text())


def texts(*nodes: ast.expr) -> set[str]:
    """The texts among these that look like a code."""
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in found if CODE.fullmatch(text)}


def codes(file: Path, tree: ast.Module) -> set[str]:
    """What is given to a maker of refusals, stands in one of their constants, or is the first of (error, reason)."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found |= texts(*node.args) if name in MAKERS else set()
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
            if names & CONSTANTS and node.value is not None:
                found |= texts(node.value, *(node.value.elts if isinstance(node.value, ast.Tuple) else ()))
            if "REFUSALS" in names and isinstance(node.value, ast.Dict):
                found |= texts(*(each.elts[0] for each in node.value.values if isinstance(each, ast.Tuple)))
        elif isinstance(node, ast.Tuple) and file.name == "explain.py" and node.elts:
            found |= texts(node.elts[0])
    return found


def test_every_code_is_in_the_list_and_every_one_there_is_used() -> None:
    found = {code for file, tree in trees() for code in codes(file, tree)}
    assert found == set(REFUSAL_ERRORS)
    assert len(set(REFUSAL_ERRORS)) == len(REFUSAL_ERRORS)

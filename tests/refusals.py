"""Every sentence of advice that a refusal of ``worker.model`` can end with, read from the source.

Those of the window form are in tests/model/test_window.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MODEL = Path(__file__).parent.parent / "worker" / "model"
CALLS = {"refuse": 2, "ModelRefusedError": 2, "_refused": 2, "_refused_over_time": 2}  # place of the advice
WRITING = {"item_ports", "generative"}
HANDED_ON = {"instead", "refusal.instead"}  # parameters: the sentence stands where it is given


def sentences(of_texts: bool = False) -> dict[str, str]:
    """{regular expression of a sentence: where it stands}, but for the refusals of files.

    ``of_texts``: those of models that write, or else all others.
    """
    found = {}
    for path in sorted(MODEL.rglob("*.py")):
        rooms = path.relative_to(MODEL).parts
        if {"files", "window"} & set(rooms) or ("pair" in rooms or path.stem in WRITING) != of_texts:
            continue
        tree = ast.parse(path.read_text())
        for scope, call in _calls(tree):
            for text in _texts(call.args[CALLS[_name(call)]], scope, tree):
                found[text] = f"{path.relative_to(MODEL)}:{call.lineno}"
    return found


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _calls(tree: ast.Module) -> Iterator[tuple[ast.AST, ast.Call]]:
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) in CALLS):
        if len(call.args) > 2:
            yield next((scope for scope in reversed(scopes) if call in ast.walk(scope)), tree), call


def _texts(node: ast.expr, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield re.escape(str(node.value))
    elif isinstance(node, ast.JoinedStr):
        yield "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body, scope, tree)
        yield from _texts(node.orelse, scope, tree)
    elif isinstance(node, ast.Call):  # a function that makes the sentence
        functions = {one.name: one for one in ast.walk(_tree("rules.py")) if isinstance(one, ast.FunctionDef)}
        returned = [one.value for one in ast.walk(functions[_name(node)]) if isinstance(one, ast.Return) and one.value]
        yield from _texts(returned[-1], tree, tree)
    else:
        yield from _assigned(node, scope, tree)


def _assigned(node: ast.expr, scope: ast.AST, tree: ast.Module) -> Iterator[str]:
    """What a name stands for: in this function, in this module, or in the one that it comes from."""
    name = ast.unparse(node)
    for where in (scope, tree, _tree("graph.py"), _tree("advice.py"), _tree("pair/one_step.py")):
        for one in ast.walk(where):
            if isinstance(one, ast.Assign) and name in map(ast.unparse, one.targets):
                yield from _texts(one.value, where, tree)
                return
    assert name in HANDED_ON, f"{name}: where is this advice written?"


def _tree(file: str) -> ast.Module:
    return ast.parse((MODEL / file).read_text())

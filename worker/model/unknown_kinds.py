"""The refusal of a kind of layer that nobody has written a rule for."""

from __future__ import annotations

from typing import NoReturn

from worker.model.graph import LayerCall
from worker.model.rules import has_rule, refuse


def refuse_unknown(call: LayerCall, reason: str = "") -> NoReturn:
    """``reason``: why its Python code can't be followed."""
    known = next((kind.__name__ for kind in type(call.layer).__mro__[1:-1] if has_rule(kind)), None)
    kind = f"'{call.kind}', a subclass of {known} that may compute anything," if known else f"'{call.kind}'"
    refuse(
        call,
        f"no rule says how {kind} runs on one step" + (reason and f", and its code can't be followed: {reason}"),
        "replace it by layers that work on each step alone and train again; for a kind of your own, register a rule "
        "with worker.model.rules.streams",
    )

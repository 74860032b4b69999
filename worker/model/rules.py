"""The registry: one rule per layer kind says how that layer runs on one step. A layer without a rule is refused.

A rule is looked up by the exact class, because a subclass may compute anything. It receives the call as the graph has
it and the form that is being built, and returns what the call returns: as many tensors as in the trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Protocol, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.graph import Layer, LayerCall, Tensor, copy_weights, tensors_in


class Form(Protocol):
    """What a rule may do to the explicit-state model that is being built."""

    last_recurrent: str | None  # name of the recurrent layer converted last, for advice in refusals

    def over_time(self, tensor: Tensor) -> bool:
        """Whether axis 1 of this tensor is the stream's time (of length 1 in the step)."""

    def mark(self, outputs: Any, over_time: bool) -> Any:
        """Say whether axis 1 of these tensors is the stream's time; returns them."""

    def name(self, call: LayerCall) -> str:
        """A name for this call that is unique in the model, nested or shared layers included."""

    def state(self, layer: str, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
        """A new state of the model: a tensor (batch, *shape) that holds its value before the step."""

    def answer(self, after: list[Tensor]) -> None:
        """The values after the step of the states opened and not yet answered, in the same order."""

    def copy(self, call: LayerCall) -> Layer:
        """The layer's copy in the model: one per layer, shared between its calls; no weights before the first."""

    def report(self, call: LayerCall, name: str, form: str) -> None:
        """One line for the user: what became of this layer."""


Rule: TypeAlias = Callable[[LayerCall, Form], Any]

_RULES: dict[type, Rule] = {}


def streams(*kinds: type) -> Callable[[Rule], Rule]:
    """Register a rule for these layer classes."""

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            assert kind not in _RULES, f"two rules for {kind.__name__}"
            _RULES[kind] = rule
        return rule

    return register


def rule_for(call: LayerCall) -> Rule:
    """The rule of this layer's class. Raises ModelRefusedError naming the layer when there is none."""
    rule = _RULES.get(type(call.layer))
    if rule is None:
        refuse(
            call,
            f"no rule says how the kind '{call.kind}' runs on one step",
            "replace it by a layer that works on each step alone, or register a rule for it with "
            "worker.model.rules.streams",
        )
    return rule


def refuse(call: LayerCall, why: str, instead: str) -> NoReturn:
    """Raise ModelRefusedError for this layer, named with the nested models around it."""
    raise ModelRefusedError(".".join([*call.path, call.layer.name]), why, instead)


def run_as_it_is(call: LayerCall, form: Form, over_time: bool) -> Any:
    """Call the layer's copy on the one step, as the trained model calls the layer."""
    if call.kwargs.get("training"):
        refuse(
            call,
            "it is called with training=True, so its output is drawn at random",
            "build the model without that argument",
        )
    copy = form.copy(call)
    outputs = copy(*call.args, **call.kwargs)
    copy_weights(call.layer, copy)
    if over_time and any(tensor.shape[1] != 1 for tensor in tensors_in(outputs)):
        refuse(call, "it makes another number of steps out of one", "take out what depends on the number of steps")
    form.report(call, form.name(call), "as it is")
    return form.mark(outputs, over_time)

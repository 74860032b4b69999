"""The registry: one rule per layer kind says how that layer runs on one step. Without a rule, no step is run.

A rule is looked up by the exact class, because a subclass may compute anything. It receives the call as the graph has
it and the builder of the streaming form, and returns what the call returns: as many tensors as in the trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn, Protocol, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.backend import keras
from worker.model.graph import Layer, LayerCall, Tensor, copy_weights, tensors_in
from worker.records.arrays import FloatArray


class Time(Enum):
    """How a tensor of the model relates to the stream's time."""

    EACH_STEP = "each step"  # axis 1 is the time, of length 1 in the step
    SO_FAR = "so far"  # no time axis: the result of all steps until now
    CONSTANT = "constant"  # no time axis: the same in all steps of a sequence
    WINDOW = "window"  # axis 1 holds the last steps, zeros before the first; only rules that say so take it
    SHARE = "share"  # a part in a sum over time (``Share``); only rules of their own take it


@dataclass(frozen=True, slots=True)
class Share:
    """A step's part in a sum over time. After every step the sum is known; the parts keep changing.

    ``source`` is the layer that made shares of the steps, as refusals name it. ``now`` is what this step adds.
    ``gone``: which share of the sum so far makes room for it, None for nothing. ``total``: the final divisor of the
    sum, None for nothing. All are (batch, …) with 1 at ``axis``, the time; ``gone`` and ``total`` are spread over
    ``now`` as numpy does.
    """

    source: str
    now: Tensor
    gone: Tensor | None
    total: Tensor | None
    axis: int = 1


class StepBuilder(Protocol):
    """What a rule may do to the explicit-state model that is being built."""

    last_recurrent: str | None  # name of the recurrent layer converted last, for advice in refusals

    def time(self, tensor: Tensor) -> Time:
        """How this tensor relates to the stream's time."""

    def mark(self, outputs: Any, time: Time) -> Any:
        """Say how these tensors relate to the stream's time; returns them."""

    def share(self, tensor: Tensor) -> Share:
        """The share that this tensor of Time.SHARE stands for."""

    def mark_share(self, share: Share) -> Tensor:
        """The tensor that stands for this share in the graph."""

    def name(self, call: LayerCall) -> str:
        """A name for this call that is unique in the model, nested or shared layers included."""

    def unique(self, name: str, path: tuple[str, ...]) -> str:
        """This name for something new in the model, with ``path`` or a number when it is taken."""

    def state(
        self, layer: str, name: str, shape: tuple[int, ...], dtype: str, initial: FloatArray | None = None
    ) -> Tensor:
        """A new state of the model: a tensor (batch, *shape) that holds its value before the step.

        ``initial``, of that shape, is its value in a stream that has seen nothing; zeros when left out.
        """

    def answer(self, after: list[Tensor]) -> None:
        """The values after the step of the states opened and not yet answered, in the same order."""

    def copy(self, call: LayerCall, **changes: Any) -> Layer:
        """The layer's copy in the model: one per layer, shared between its calls; no weights before the first.

        With another configuration (``changes``) it is another copy.
        """

    def report(self, call: LayerCall, name: str, form: str) -> None:
        """One line for the user: what became of this layer."""


Rule: TypeAlias = Callable[[LayerCall, StepBuilder], Any]

_RULES: dict[type, Rule] = {}
_SHARE_RULES: dict[type, Rule] = {}
_TAKE_WINDOWS: set[type] = set()


def streams(*kinds: type, windows: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for these layer classes; ``windows`` when it also takes tensors of Time.WINDOW."""

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            assert kind not in _RULES, f"two rules for {kind.__name__}"
            _RULES[kind] = rule
        if windows:
            _TAKE_WINDOWS.update(kinds)
        return rule

    return register


def takes_shares(*kinds: type) -> Callable[[Rule], Rule]:
    """Register a rule for calls of these layer classes in which one tensor is of Time.SHARE."""

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            assert kind not in _SHARE_RULES, f"two rules for {kind.__name__}"
            _SHARE_RULES[kind] = rule
        return rule

    return register


def rule_for(call: LayerCall, builder: StepBuilder) -> Rule:
    """The rule of this layer's class, or the one for kinds that nobody has written a rule for."""
    if Time.SHARE in {builder.time(tensor) for tensor in call.tensors}:
        return _SHARE_RULES.get(type(call.layer), refuse_share)
    return _RULES.get(type(call.layer), _unknown)


def refuse_share(call: LayerCall, builder: StepBuilder) -> NoReturn:
    """A layer that uses shares in another way than a sum over time is not at fault: the softmax over time is named."""
    share = next(builder.share(tensor) for tensor in call.tensors if builder.time(tensor) is Time.SHARE)
    raise ModelRefusedError(
        share.source,
        f"over time the share of each step changes with every later step, and '{call.layer_path}' takes it as input",
        "sum the shares over time, keras.ops.sum(steps * shares, axis=1), and train again",
    )


def refuse_windows(call: LayerCall, builder: StepBuilder) -> None:
    """Refuse a tensor with more steps than came in, unless the rule is made for it."""
    if type(call.layer) not in _TAKE_WINDOWS and Time.WINDOW in {builder.time(tensor) for tensor in call.tensors}:
        refuse(
            call,
            "its input begins with zeros, before the first step, so it has more steps than came in",
            "put a convolution with padding='valid' that reaches back n steps behind ZeroPadding1D((n, 0)); train it",
        )


def has_rule(kind: type) -> bool:
    return kind in _RULES


def _unknown(call: LayerCall, builder: StepBuilder) -> Any:
    """A kind without a rule may do anything with time; a layer without a time axis can only compute.

    Plain operations may also work across the batch, so that one stream would affect another.
    """
    time = without_time(call, builder)
    if time is None or not isinstance(call.layer, keras.Layer):
        refuse_unknown(call)
    return run_as_it_is(call, builder, time)


def refuse_unknown(call: LayerCall) -> NoReturn:
    known = next((kind.__name__ for kind in type(call.layer).__mro__[1:] if kind in _RULES), None)
    kind = f"'{call.kind}', a subclass of {known} that may compute anything," if known else f"'{call.kind}'"
    refuse(
        call,
        f"no rule says how {kind} runs on one step",
        "replace it by layers that work on each step alone and train again; for a kind of your own, register a rule "
        "with worker.model.rules.streams",
    )


def refuse(call: LayerCall, why: str, instead: str) -> NoReturn:
    """Raise ModelRefusedError for this layer, named with the nested models around it."""
    raise ModelRefusedError(call.layer_path, why, instead)


def part_before(call: LayerCall) -> str:
    """What to do where a decoder begins with this call: the part of the model that gives it its last tensor streams."""
    layer, output = call.layer, "the output before it"
    given = layer._inbound_nodes[0].input_tensors
    source = given[-1]._keras_history.operation
    if not call.path and not isinstance(source, keras.layers.InputLayer):
        # An operation has a name, too, but get_layer finds layers only.
        found = isinstance(source, keras.Layer) and any(one is given[-1] for one in keras.tree.flatten(source.output))
        which = "" if len(given) == 1 else "[-1]"
        output = f"'{source.name}').output" if found else f"'{layer.name}').input{which}"
        output = f"model.get_layer({output}"
    return f"stream the part before it, an encoder, alone: keras.Model(its inputs, {output})"


def run_as_it_is(call: LayerCall, builder: StepBuilder, time: Time, **changes: Any) -> Any:
    """Call the layer's copy on the one step, as the trained model calls the layer; its outputs are marked ``time``.

    ``changes`` of its configuration remove what binds it to one number of steps.
    """
    if call.kwargs.get("training"):
        refuse(
            call,
            "it is called with training=True, so its output is drawn at random",
            "build the model without that argument",
        )
    copy = builder.copy(call, **changes)
    outputs = copy(*call.args, **call.kwargs)
    copy_weights(call.layer, copy)
    if time is Time.EACH_STEP and any(tensor.shape[1:2] != (1,) for tensor in tensors_in(outputs)):
        refuse(
            call,
            "it turns one step into another number of steps",
            "remove what depends on the number of steps and train again",
        )
    builder.report(call, builder.name(call), "as it is")
    return builder.mark(outputs, time)


def without_time(call: LayerCall, builder: StepBuilder) -> Time | None:
    """How a layer's output relates to time when none of its inputs runs over time; None when one does."""
    times = {builder.time(tensor) for tensor in call.tensors}
    if Time.EACH_STEP in times:
        return None
    return Time.SO_FAR if Time.SO_FAR in times else Time.CONSTANT

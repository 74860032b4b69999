"""The registry: one rule per layer kind says how that layer runs on one step. Without a rule, no step is run.

A rule is looked up by the exact class, because a subclass may compute anything. It receives the call as the graph has
it and the builder of the streaming form, and returns what the call returns: as many tensors as in the trained model.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NoReturn, Protocol, TypeAlias

from worker.errors import ModelRefusedError
from worker.model.counting import EventCount
from worker.model.graph import Layer, LayerCall, Tensor, copy_weights, tensors_in
from worker.model.share import Share
from worker.model.steps import Steps
from worker.records.arrays import FloatArray


class Time(Enum):
    """How a tensor of the model relates to the stream's time."""

    EACH_STEP = "each step"  # axis 1 is the time, of length 1 in the step
    SO_FAR = "so far"  # no time axis: the result of all steps until now
    CONSTANT = "constant"  # no time axis: the same in all steps of a sequence
    WINDOW = "window"  # axis 1 holds the last steps, zeros before the first; only rules that say so take it
    REMEMBERED = "remembered"  # axis 1 holds the last steps, those that are there; only rules of their own take it
    SHARE = "share"  # a part in a sum over time (``Share``); only rules of their own take it


class StepBuilder(Protocol):
    """What a rule may do to the explicit-state model that is being built."""

    last_recurrent: str | None  # name of the recurrent layer converted last, for advice in refusals
    remembered: dict[int, Tensor]  # tensors over time, by id → the same of Time.REMEMBERED
    memory: int | None  # steps that attention may look back over, this one too; None when the caller does not say
    begins_elsewhere: bool  # whether the states of the next recurrent layer begin with what the builder is not told
    now: Steps | None  # the steps of the call that is being visited; None where nothing runs over time

    @property
    def count(self) -> EventCount:
        """The count of the sequence's events, opened when it is first asked for."""

    def time(self, tensor: Tensor) -> Time:
        """How this tensor relates to the stream's time."""

    def steps(self, tensor: Tensor) -> Steps | None:
        """When the steps of this tensor come; None for one that is the same at all of them."""

    def mark(self, outputs: Any, time: Time, steps: Steps | None = None) -> Any:
        """Say how these tensors relate to the stream's time; returns them.

        Their steps come when those of the call's inputs do, unless ``steps`` says otherwise.
        """

    def share(self, tensor: Tensor) -> Share:
        """The share that this tensor of Time.SHARE stands for."""

    def mark_share(self, share: Share) -> Tensor:
        """The tensor that stands for this share in the graph."""

    def mark_padded(self, output: Tensor, left: int, right: int, source: str) -> Tensor:
        """Say that zeros stand before the first step and behind the last one; returns the tensor, of Time.WINDOW.

        ``source``: the layer that puts them there, as refusals name it.
        """

    def padding(self, tensor: Tensor) -> tuple[int, int]:
        """How many zeros stand before the first step and behind the last one."""

    def padded_by(self, tensor: Tensor) -> str:
        """The layer that has put them there."""

    def present(self, tensor: Tensor) -> Tensor:
        """Which steps of a tensor of Time.REMEMBERED are there: (batch, steps) bool."""

    def mark_remembered(self, tensor: Tensor, present: Tensor) -> Tensor:
        """Say that axis 1 of this tensor holds the last steps, and which are there; returns it."""

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

    def answer(self, after: list[Tensor]) -> list[Tensor]:
        """The values after the step of the states opened and not yet answered, in the same order.

        Returns what they are after this event, which may bring no step.
        """

    def copy(self, call: LayerCall, **changes: Any) -> Layer:
        """The layer's copy in the model: one per layer, shared between its calls; no weights before the first.

        With another configuration (``changes``) it is another copy.
        """

    def exact_up_to(self, steps: int) -> None:
        """Say that from the event after so many on, answers are not those of the trained model."""

    def ends_after(self, steps: int) -> None:
        """Say that the trained model has no answer to longer sequences, and the streaming form gives no number."""

    def visit(self, call: LayerCall) -> Any:
        """What the rule of this call's layer gives."""

    def once(self, key: tuple[int, str], make: Callable[[], Layer]) -> Layer:
        """What ``make`` has made for this key, an object's id and a name."""

    def report(self, call: LayerCall, name: str, form: str) -> None:
        """One line for the user: what became of this layer."""

    def add_report(self, name: str, kind: str, form: str) -> None:
        """One line for the user: what has been added beside the layers."""


Rule: TypeAlias = Callable[[LayerCall, StepBuilder], Any]

_RULES: dict[type, Rule] = {}
_SHARE_RULES: dict[type, Rule] = {}
_REMEMBERED_RULES: dict[type, Rule] = {}
_JOINING: set[type] = set()
_TAKE_WINDOWS: set[type] = set()
_TAKE_TAILS: set[type] = set()


def streams(*kinds: type, windows: bool = False, tails: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for these classes; ``windows``: it takes Time.WINDOW, ``tails``: steps that are not settled.

    The rule of ``object`` is that of all kinds that have none."""

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            assert kind not in _RULES, f"two rules for {kind.__name__}"
            _RULES[kind] = rule
        if windows:
            _TAKE_WINDOWS.update(kinds)
        if tails:
            _TAKE_TAILS.update(kinds)
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


def takes_remembered(*kinds: type, joins: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for calls of these layer classes in which a tensor is of Time.REMEMBERED.

    With ``joins`` also for those that join each step with a result so far, where the caller gives room for steps.
    """

    def register(rule: Rule) -> Rule:
        _REMEMBERED_RULES.update(dict.fromkeys(kinds, rule))
        _JOINING.update(kinds if joins else ())
        return rule

    return register


def rule_for(call: LayerCall, builder: StepBuilder) -> Rule:
    """The rule of this layer's class, or the one for kinds that nobody has written a rule for."""
    if Time.SHARE in {builder.time(tensor) for tensor in call.tensors}:
        return _SHARE_RULES.get(type(call.layer), refuse_share)
    times, kind = {builder.time(tensor) for tensor in call.tensors}, type(call.layer)
    if Time.REMEMBERED in times:
        return _REMEMBERED_RULES.get(kind, _REMEMBERED_RULES[object])
    if builder.memory is not None and kind in _JOINING and {Time.EACH_STEP, Time.SO_FAR} <= times:
        return _REMEMBERED_RULES[kind]
    return _RULES.get(kind, _RULES[object])


def refuse_share(call: LayerCall, builder: StepBuilder) -> NoReturn:
    """A layer that uses shares in another way than a sum over time is not at fault: the softmax over time is named."""
    share = next(builder.share(tensor) for tensor in call.tensors if builder.time(tensor) is Time.SHARE)
    raise ModelRefusedError(
        share.source,
        f"over time the share of each step changes with every later step, and '{call.layer_path}' takes it as input",
        "sum the shares over time, keras.ops.sum(steps * shares, axis=1), and train again",
    )


def takes_windows(kind: type) -> bool:
    return kind in _TAKE_WINDOWS


def takes_tails(kind: type) -> bool:
    return kind in _TAKE_TAILS


def has_rule(kind: type) -> bool:
    return kind in _RULES


def refuse(call: LayerCall, why: str, instead: str) -> NoReturn:
    """Raise ModelRefusedError for this layer, named with the nested models around it."""
    raise ModelRefusedError(call.layer_path, why, instead)


def run_as_it_is(call: LayerCall, builder: StepBuilder, time: Time, form: str = "as it is", **changes: Any) -> Any:
    """Call the layer's copy on the one step, as the trained model calls the layer; its outputs are marked ``time``.

    ``form`` is for the user. ``changes`` of its configuration remove what binds it to one number of steps.
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
    steps = 1 + (builder.now.tail if builder.now else 0)
    if time is Time.EACH_STEP and any(tensor.shape[1:2] != (steps,) for tensor in tensors_in(outputs)):
        refuse(
            call,
            "it turns one step into another number of steps",
            "remove what depends on the number of steps and train again",
        )
    builder.report(call, builder.name(call), form)
    return builder.mark(outputs, time)


def without_time(call: LayerCall, builder: StepBuilder) -> Time | None:
    """How a layer's output relates to time when none of its inputs runs over time; None when one does."""
    times = {builder.time(tensor) for tensor in call.tensors}
    if Time.EACH_STEP in times:
        return None
    return Time.SO_FAR if Time.SO_FAR in times else Time.CONSTANT

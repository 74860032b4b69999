"""Rules of the recurrent layers: their states become inputs and outputs of the model.

A step that is masked leaves the states and the output as they were.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from worker.model.advice import part_before
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor, tensors_in
from worker.model.keras2_masks import looks_at_its_mask
from worker.model.layers.cells import CellStates, one_step, states_of
from worker.model.layers.masking import carrying, mask_of, where_counted
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.repeating import anew
from worker.model.layers.tails import over_tail, where_each
from worker.model.layers.windows import part
from worker.model.rules import StepBuilder, Time, refuse, streams, without_time
from worker.model.steps import PLAIN
from worker.model.unsettled import refuse_ahead

L = keras.layers
_KINDS = (L.LSTM, L.GRU, L.SimpleRNN, L.RNN, L.ConvLSTM1D, L.ConvLSTM2D, L.ConvLSTM3D)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a recurrent layer is called with. ``mask`` (batch, 1) is what it computes with, ``hands_on`` what Keras
    attaches to its output: a layer that is given an initial state does not look at the mask its input carries.
    """

    x: Tensor
    initial: list[Tensor]
    mask: Tensor | None
    hands_on: Tensor | None


@streams(*_KINDS, tails=True)
def recurrent(call: LayerCall, builder: StepBuilder) -> Any:
    """x (batch, 1, …) and the states before → output of this step and the states after."""
    if without_time(call, builder) is not None:
        return anew(call, builder)
    given = _given(call, builder)
    _check(call, given, builder)
    layer, name, states = call.layer, builder.name(call), states_of(call)
    before = [
        builder.state(name, state.name, state.shape, state.dtype, None if given.initial else state.initial)
        for state in states.flat
    ]
    start, begun = _begin(call, given, builder, name, before)
    run, now = NamedOperations(builder, name), builder.now or PLAIN
    output, after = one_step(call, builder, part(run, given.x, 0, 1) if now.tail else given.x, states.pack(start))
    _check_states(call, before, after)
    kept: list[Tensor] = []
    if given.mask is not None:
        after = [where_counted(given.mask, new, old) for new, old in zip(after, start, strict=True)]
        output, kept = _as_it_was(
            call, given, builder, name, output, None if states.echo is None else after[states.echo]
        )
    held = builder.answer([*after, *begun, *kept])[: len(after)]
    if now.tail:
        held = where_each(builder, builder.count.arrived(now), after, start) if begun else held
        output, after = _over_tail(call, builder, run, given, states, output, held)
    if given.hands_on is not None and layer.return_sequences:
        output = carrying(builder, output, given.hands_on, name)
    builder.last_recurrent = name
    builder.report(call, name, _words(len(after), given))
    builder.mark(output, Time.EACH_STEP if layer.return_sequences else Time.SO_FAR)
    if not layer.return_state:
        return output
    return (output, *builder.mark([keras.ops.cast(state, layer.compute_dtype) for state in after], Time.SO_FAR))


def _over_tail(
    call: LayerCall,
    builder: StepBuilder,
    run: NamedOperations,
    given: _Given,
    states: CellStates,
    output: Tensor,
    held: list[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The layer's output where steps follow that are not settled, and the states after the last of them."""
    if given.mask is not None:
        refuse_ahead(call, builder)

    def step(ahead: int, before: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return one_step(call, builder, part(run, given.x, ahead, ahead + 1), states.pack(before))

    outputs, last, after = over_tail(builder, run, builder.now, held, output, step)
    return run(OPS.Concatenate, outputs, axis=1) if call.layer.return_sequences else last, after


def _given(call: LayerCall, builder: StepBuilder) -> _Given:
    values = inspect.signature(call.layer.call).bind(*call.args, **call.kwargs).arguments
    x, initial, explicit = values["sequences"], values.get("initial_state"), values.get("mask")
    tensors = tensors_in(initial)
    if len(tensors) != len([value for value in keras.tree.flatten(initial) if value is not None]):
        refuse(call, "its initial state is an array that is part of the graph", "make it an input of the model")
    if explicit is not None and not isinstance(explicit, keras.KerasTensor):
        refuse(call, "its mask is an array that is part of the graph", "make it an input of the model")
    if values.get("training"):
        refuse(
            call,
            "it is called with training=True, so its output may be drawn at random",
            "build the model without that argument",
        )
    if explicit is not None and builder.time(explicit) is not Time.EACH_STEP:
        refuse(call, "its mask does not run over time", "let each step tell whether it counts, and train again")
    if explicit is None and tensors and mask_of(x) is not None and looks_at_its_mask(call.layer):
        refuse(
            call,
            "it is given an initial state and a mask: Keras 2 leaves masked steps out then, Keras 3 does not",
            "let it begin at zero, or give it no mask, and train again",
        )
    mask = explicit if explicit is not None or tensors else mask_of(x)
    return _Given(x, tensors, _of_the_step(call, mask), explicit if explicit is not None else mask_of(x))


def _of_the_step(call: LayerCall, mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    if tuple(mask.shape[1:]) not in ((1,), (1, 1)):
        refuse(
            call,
            f"its mask of shape {tuple(mask.shape)} is not one value per step",
            "mask whole steps, (batch, time), and train again",
        )
    mask = mask[:, :, 0] if len(mask.shape) == 3 else mask
    return mask if mask.dtype == "bool" else keras.ops.cast(mask, "bool")


def _check(call: LayerCall, given: _Given, builder: StepBuilder) -> None:
    layer = call.layer
    if layer.go_backwards:
        refuse(call, "go_backwards=True begins at the end of the sequence", "train it with go_backwards=False")
    if any(builder.time(tensor) is not Time.CONSTANT for tensor in given.initial):
        refuse(
            call,
            "its initial state comes from what runs over time, so it is known only once that sequence has ended",
            f"{part_before(call)}, or let it begin at zero and train again",
        )
    if layer.stateful and layer.states is None:
        refuse(call, "stateful was set after it was built", "build it with stateful=False: the worker keeps the states")


def _begin(
    call: LayerCall, given: _Given, builder: StepBuilder, name: str, before: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The states to start this step from; what the state ``begun`` is after it, if there is one.

    With an initial state given by the model, ``begun`` is zero before the first step and one from then on. States that
    are set from outside count when ``begun`` is set to one with them.
    """
    if not given.initial:
        return before, []
    if len(given.initial) != len(before) or any(
        tuple(one.shape[1:]) != tuple(two.shape[1:]) for one, two in zip(given.initial, before, strict=True)
    ):
        refuse(
            call,
            "its initial state has other shapes than its states",
            "give one tensor for each state, as wide as it, and train again",
        )
    begun = builder.state(name, "begun", (1,), "float32")
    start = [
        where_counted(begun > 0.5, old, keras.ops.cast(first, old.dtype))
        for old, first in zip(before, given.initial, strict=True)
    ]
    return start, [keras.ops.ones_like(begun)]


def _as_it_was(
    call: LayerCall, given: _Given, builder: StepBuilder, name: str, output: Tensor, echo: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The output with the one before in masked steps; what the state ``output`` is after the step, if one is needed.

    ``echo`` is the state after the step that is the output, too. Before the first step that counts Keras gives zeros,
    whatever the initial state is, so with a given one, also one from elsewhere, the state is no echo of the output.
    """
    over_time = call.layer.return_sequences
    if call.layer.zero_output_for_mask:
        return where_counted(given.mask, output, keras.ops.zeros_like(output)), []
    if echo is not None and not given.initial and not builder.begins_elsewhere:
        echo = keras.ops.cast(echo, output.dtype)
        return (keras.ops.expand_dims(echo, 1) if over_time else echo), []
    previous = builder.state(name, "output", tuple(output.shape[2 if over_time else 1 :]), output.dtype)
    shown = where_counted(given.mask, output, keras.ops.expand_dims(previous, 1) if over_time else previous)
    return shown, [keras.ops.squeeze(shown, 1) if over_time else shown]


def _check_states(call: LayerCall, before: list[Tensor], after: list[Tensor]) -> None:
    """Where a state changes its shape or dtype, most of Keras' own loops fail, too."""
    kinds = [[(tuple(state.shape[1:]), state.dtype) for state in states] for states in (before, after)]
    if kinds[0] != kinds[1]:
        refuse(
            call,
            f"its cell takes states {kinds[0]} and returns {kinds[1]}",
            "let the cell return states as it takes them, and give StackedRNNCells the dtype of its cells",
        )


def _words(count: int, given: _Given) -> str:
    words = f"{'states' if count > 1 else 'state'} as arguments"
    if given.mask is not None:
        words += ", left as they were by masked steps" if count > 1 else ", left as it was by masked steps"
    return words

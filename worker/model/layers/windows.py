"""What layers that look at several steps, convolutions and poolings, take of their input: its last steps as state.

Before the first step there are zeros, as in Keras' own padding, so the state of a new stream is zeros, too. A layer
that takes no step from there has no output before it has enough of its own; one that takes zeros from behind the last
step has outputs that later events change, its tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from worker.errors import counted
from worker.model.backend import keras
from worker.model.graph import LayerCall, Tensor
from worker.model.layers.naming import OPS, NamedOperations
from worker.model.layers.tails import absent_as, several
from worker.model.rules import StepBuilder, Time, refuse
from worker.model.steps import PLAIN, Steps

L = keras.layers


@dataclass(frozen=True, slots=True)
class Span:
    """What a layer looks at: ``reach`` earlier steps; of its steps one in ``stride`` is an output. ``left`` zeros stand
    before the first step and ``right`` behind the last one. Its input and output have the steps ``given`` and
    ``steps``.
    """

    reach: int
    stride: int
    left: int
    right: int
    given: Steps

    @property
    def steps(self) -> Steps:
        return self.given.behind(self.reach, self.stride, self.left, self.right)

    @property
    def ends(self) -> int:
        """Outputs of the layer, without padding and strides, on the rows that it is to be called with."""
        return 1 + self.given.tail + self.right

    def time(self, builder: StepBuilder, x: Tensor) -> Time:
        """How its output relates to time."""
        return Time.WINDOW if _kept_before(builder, x) and self.reach < x.shape[1] - 1 else Time.EACH_STEP

    def given_whole(self, builder: StepBuilder, x: Tensor) -> bool:
        """Whether all steps that it looks at are its input."""
        return not self.reach or (_kept_before(builder, x) and self.reach < x.shape[1])

    def words(self, builder: StepBuilder, x: Tensor) -> str:
        words = last_words(self.reach) if self.reach else "as it is"
        if self.reach and _kept_before(builder, x) and self.reach < x.shape[1]:
            words = "on the last inputs"
        return words if self.steps == self.given else f"{words}; {self.steps.words}"

    def chosen(self, builder: StepBuilder, run: NamedOperations, dense: Tensor) -> Tensor:
        """Of the outputs at all ends (batch, ends, …) those that are steps: the one settled last and the tail."""
        if self.stride == 1 or self.ends == 1:
            return dense
        phase = builder.count.phase(self.given, self.stride, self.reach - self.left)
        parts = [part(run, dense, 0, 1)]
        for ahead in range(1, self.steps.tail + 1):
            ends = [min(ahead * self.stride - late, self.ends - 1) for late in range(self.stride)]
            found = part(run, dense, ends[0], ends[0] + 1)
            for late, end in enumerate(ends[1:], 1):
                late_by = run(OPS.Equal, several(run, phase, found), float(late))
                found = run(OPS.Where, late_by, part(run, dense, end, end + 1), found)
            parts.append(found)
        return run(OPS.Concatenate, parts, axis=1)


def span_of(call: LayerCall, builder: StepBuilder, reach: int, stride: int) -> Span:
    """For a layer over time. Raises ModelRefusedError where the steps that it looks at depend on the length."""
    (x,), padding = call.tensors, call.layer.padding
    left, right = builder.padding(x)
    if (left or right) and padding != "valid" and reach:
        _refuse_twice(call, reach, left + right)
    if padding == "causal":
        left = reach
    if padding == "same":
        lefts = {max(reach + 1 - stride + short, 0) // 2 for short in range(stride)}
        left = lefts.pop()
        if lefts:
            _refuse_same(call, stride)
        right = reach - left
    if left + right > reach and (stride > 1 or right or not _kept_before(builder, x)):
        refuse(
            call,
            f"{counted(left + right - reach, 'step')} of zeros more than it looks back stand before and behind",
            f"put {_zeros_before(call, reach)} before it and train again",
        )
    return Span(reach, stride, min(left, reach), right, builder.steps(x) or PLAIN)


def rows(call: LayerCall, builder: StepBuilder, span: Span, fill: float = 0.0) -> Tensor:
    """(batch, reach + ends, …): the steps that the outputs look at; ``fill`` where there is none behind the last."""
    (x,), run = call.tensors, NamedOperations(builder, builder.name(call))
    if span.given_whole(builder, x):
        return x
    if _kept_before(builder, x):
        x = part(run, x, -1, None)
    if span.ends == 1:
        return last_inputs(call, builder, span.reach, x)
    dtype = getattr(call.layer, "compute_dtype", x.dtype)
    x = run.cast(x, dtype)
    parts = [*kept_inputs(builder, run, builder.name(call), span.reach, x)]
    if span.given.tail:
        parts.append(absent_as(builder, run, span.given, part(run, x, 1, None), range(1, 1 + span.given.tail), fill))
    if span.right:
        last = part(run, x, 0, 1)
        parts += [run(OPS.FullLike, last, fill)] * span.right
    return run(OPS.Concatenate, parts, axis=1)


def _kept_before(builder: StepBuilder, x: Tensor) -> bool:
    """Whether the padding before keeps the steps."""
    return builder.time(x) is Time.WINDOW and x.shape[1] > 1 + (builder.steps(x) or PLAIN).tail


def kept_inputs(builder: StepBuilder, run: NamedOperations, name: str, steps: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """The step before the last ``steps`` that are settled, where one is settled by this event, and these.

    They are the state ``inputs``. x (batch, 1 + tail, …).
    """
    before = builder.state(name, "inputs", (steps, *x.shape[2:]), x.dtype)
    moved = (
        run(OPS.Concatenate, [part(run, before, 1, None), part(run, x, 0, 1)], axis=1)
        if steps > 1
        else part(run, x, 0, 1)
    )
    (after,) = builder.answer([moved])
    return part(run, before, 0, 1), after


def last_words(steps: int) -> str:
    return "the last input as state" if steps == 1 else f"the last {steps} inputs as state"


def check_axes(call: LayerCall) -> None:
    """Refuses layers that run along another axis than axis 1, the time."""
    if call.layer.data_format != "channels_last":
        refuse(
            call,
            "data_format='channels_first' takes the features for the steps",
            "use data_format='channels_last' and train again",
        )


def last_inputs(call: LayerCall, builder: StepBuilder, steps: int, x: Tensor) -> Tensor:
    """x (batch, 1, …) → (batch, steps + 1, …), x last; opens and answers the state ``inputs``."""
    name = builder.name(call)
    dtype = getattr(call.layer, "compute_dtype", x.dtype)  # an operation computes in the dtype of its input
    run = NamedOperations(builder, name)
    before = builder.state(name, "inputs", (steps, *x.shape[2:]), dtype)
    window = run(OPS.Concatenate, [before, run.cast(x, dtype)], axis=1)
    flat = len(window.shape) == 3
    after = L.Cropping1D((1, 0), dtype=dtype, name=run.name("after"))(window) if flat else part(run, window, 1, None)
    builder.answer([after])
    return window


def part(run: NamedOperations, x: Any, begin: int, end: int | None) -> Tensor:
    """x[:, begin:end]."""
    return run(OPS.GetItem, x, (slice(None), slice(begin, end)))


def _refuse_twice(call: LayerCall, reach: int, padded: int) -> NoReturn:
    refuse(
        call,
        f"it reaches over {counted(reach + 1, 'step')} with padding='{call.layer.padding}', and "
        f"{counted(padded, 'step')} of zeros stand before or behind",
        f"set padding='valid' here and {_zeros_before(call, reach)} before it, and train again",
    )


def _zeros_before(call: LayerCall, steps: int) -> str:
    """How so many zeros are put before the first step of its input."""
    beside = len(call.tensors[0].shape) - 2
    return (
        f"ZeroPadding1D(({steps}, 0))"
        if beside == 1
        else f"keras.ops.pad(x, {[[0, 0], [steps, 0]] + [[0, 0]] * beside})"
    )


def _refuse_same(call: LayerCall, stride: int) -> NoReturn:
    refuse(
        call,
        f"padding='same' with strides={stride}: which steps it looks at depends on how long the sequence is",
        "set padding='valid' and train again",
    )

"""Rules of keras.ops and of operators in a graph, by exact class: what works on single numbers or features.

An axis that an operation works along may neither be time nor the batch, whose rows are different streams.
"""

from __future__ import annotations

from typing import Any

from worker.model.backend import keras
from worker.model.graph import LayerCall
from worker.model.layers.merging import joint_time, refuse_misaligned
from worker.model.layers.per_step import axes_of
from worker.model.layers.positions import at_this_step
from worker.model.layers.shares import divided_by_all, softmax_over_time
from worker.model.rules import Rule, StepBuilder, Time, refuse, run_as_it_is, streams

OPS = keras.src.ops
BATCH_AXIS, TIME_AXIS = 0, 1

ELEMENTWISE = {
    OPS.numpy: "Absolute Abs Fabs Add Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh BitwiseAnd "
    "BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor Cbrt Ceil Clip Copy Cos Cosh "
    "Deg2rad Divide DivideNoNan Equal Exp Exp2 Expm1 Floor FloorDivide Fmax Fmin Fmod FullLike Gcd Greater "
    "GreaterEqual Heaviside Hypot I0 Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal Lcm Ldexp LeftShift Less "
    "LessEqual Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum "
    "Mod Multiply NanToNum Negative Nextafter NotEqual OnesLike Power Rad2deg Reciprocal RightShift Round Sign Signbit "
    "Sin Sinc Sinh Sqrt Square Subtract Tan Tanh TrueDivide Trunc Where ZerosLike",
    OPS.nn: "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu Relu6 Selu Sigmoid Silu "
    "SoftShrink Softplus Softsign SparsePlus SparseSigmoid Squareplus TanhShrink Threshold",
    OPS.core: "Cast ConvertToTensor SaturateCast StopGradient",
    OPS.math: "Erf Erfc Erfinv Rsqrt",
}
ALONG_AXIS = {
    OPS.numpy: "All Amax Amin Any Argmax Argmin Argpartition Argsort ArraySplit Average Concatenate CountNonzero "
    "Cumprod Diff Flip Median Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanprod Nanstd "
    "Nansum Nanvar Prod Ptp Repeat Roll Sort Split Std Take TakeAlongAxis Trapezoid Var",
    OPS.nn: "BatchNorm Glu LayerNorm LogSoftmax Moments Normalize RMSNorm Softmax Sparsemax",
    OPS.core: "Unstack",
    OPS.math: "Logsumexp TopK",
    OPS.linalg: "Norm",
}
_NEW_AXIS = {OPS.numpy: "ExpandDims Stack", OPS.nn: "OneHot"}


def _register(names: dict[Any, str], rule: Rule) -> None:
    streams(*(getattr(module, name) for module, listed in names.items() for name in listed.split()), tails=True)(rule)


def elementwise(call: LayerCall, builder: StepBuilder) -> Any:
    """Number by number; where shapes differ, spread as numpy does, but never along time or the batch."""
    if isinstance(call.layer, (OPS.numpy.Divide, OPS.numpy.TrueDivide)):
        shares = divided_by_all(call, builder)
        if shares is not None:
            return shares
    if isinstance(call.layer, OPS.numpy.Subtract) and _takes_the_greatest(call, builder):
        refuse(
            call,
            "it subtracts the greatest of all steps, which later steps change",
            "write a softmax over time as keras.ops.softmax(scores, axis=1), or train again without it",
        )
    call = at_this_step(call, builder)
    time = joint_time(call, builder)
    rank = max(len(tensor.shape) for tensor in call.tensors)
    refuse_misaligned(call, builder, rank)
    return run_as_it_is(call, builder, time)


def _takes_the_greatest(call: LayerCall, builder: StepBuilder) -> bool:
    """Whether it is the first part of a softmax over time that was written by hand: x - max(x)."""
    if [builder.time(tensor) for tensor in call.tensors] != [Time.EACH_STEP, Time.SO_FAR]:
        return False
    made_by = call.node.input_tensors[1]._keras_history.operation
    return isinstance(made_by, (OPS.numpy.Max, OPS.numpy.Amax))


def along_axis(call: LayerCall, builder: StepBuilder) -> Any:
    time = joint_time(call, builder)
    rank = len(call.tensors[0].shape)
    over_time = time is Time.EACH_STEP and axes_of(_axis_of(call), rank) == {TIME_AXIS}
    if over_time and isinstance(call.layer, OPS.nn.Softmax):
        return softmax_over_time(call, builder)
    refuse_axes(call, time, _axis_of(call), rank)
    return run_as_it_is(call, builder, time)


def new_axis(call: LayerCall, builder: StepBuilder) -> Any:
    """The axis is counted in the output: an axis before time would move time away."""
    time = joint_time(call, builder)
    axis = call.layer.axis
    more = len(axis) if isinstance(axis, (list, tuple)) else 1
    axes = axes_of(axis, len(call.tensors[0].shape) + more)
    moved = TIME_AXIS if time is Time.EACH_STEP else BATCH_AXIS
    if min(axes) <= moved:
        refuse(call, f"axis={axis} puts a new axis before the time axis", "put it last, axis=-1, and train again")
    return run_as_it_is(call, builder, time)


@streams(OPS.numpy.Digitize, tails=True)
def digitize(call: LayerCall, builder: StepBuilder) -> Any:
    """The bins are edges on the scale of the values, not one per feature."""
    return run_as_it_is(call, builder, joint_time(call, builder))


@streams(OPS.numpy.Matmul, OPS.numpy.Dot, tails=True)
def product(call: LayerCall, builder: StepBuilder) -> Any:
    """Features times one matrix for all steps, or times a matrix of the same step."""
    time = joint_time(call, builder, ranks=False)
    left, right, *_ = [*call.args, *call.kwargs.values()]
    ranks = [len(getattr(side, "shape", ())) for side in (left, right)]
    fits = _is_tensor(left) and ranks[0] > (2 if time is Time.EACH_STEP else 1)
    if _is_tensor(right):
        same = isinstance(call.layer, OPS.numpy.Matmul) and ranks[0] == ranks[1]
        own = builder.time(right) is time and ranks[1] > (3 if time is Time.EACH_STEP else 2)
        one_for_all = time is Time.EACH_STEP and builder.time(right) is Time.CONSTANT and ranks[1] == 3
        fits = fits and same and builder.time(left) is time and (own or one_for_all)
    else:
        fits = fits and ranks[1] in (1, 2)
    if not fits:
        refuse(
            call,
            "it multiplies along an axis that may be time",
            "multiply (batch, time, features) by one matrix (features, units), as Dense does, and train again",
        )
    return run_as_it_is(call, builder, time)


@streams(OPS.numpy.Einsum, tails=True)
def einsum(call: LayerCall, builder: StepBuilder) -> Any:
    """Batch and time are the first letters of what runs over time and of the result, and nowhere else."""
    time = joint_time(call, builder, ranks=False)
    given, _, result = call.layer.subscripts.replace(" ", "").partition("->")
    kept = result[: 2 if time is Time.EACH_STEP else 1]
    operands = list(zip(given.split(","), call.args, strict=False))
    fits = "." not in given and len(kept) == (2 if time is Time.EACH_STEP else 1) and not call.kwargs
    for letters, operand in operands:
        lead = (
            kept if _is_tensor(operand) and builder.time(operand) is time else kept[:1] if _is_tensor(operand) else ""
        )
        fits = fits and letters.startswith(lead) and not set(kept) & set(letters[len(lead) :])
    if not fits or set(kept) & set(result[len(kept) :]):
        refuse(
            call,
            f"in '{call.layer.subscripts}' it is not certain that every step stays alone",
            "begin each part over time, and the result, with batch and time, 'btf,fu->btu', and train again",
        )
    return run_as_it_is(call, builder, time)


def refuse_axes(call: LayerCall, time: Time, axis: Any, rank: int) -> None:
    """Refuse what works along the batch or along time."""
    axes = axes_of(axis, rank)
    if axis is None or BATCH_AXIS in axes:
        which = "all axes" if axis is None else "axis 0"
        refuse(call, f"along {which} it mixes the streams of a batch", "use axis=-1, the features, and train again")
    if time is Time.EACH_STEP and TIME_AXIS in axes:
        why = f"axis={axis} is time, so a step depends on all the others"
        if isinstance(call.layer, OPS.nn.LogSoftmax):
            refuse(
                call,
                why,
                "use shares = keras.ops.softmax(x, axis=1) in place of its exponential, summed over time, "
                "keras.ops.sum(steps * shares, axis=1), and train again",
            )
        if isinstance(call.layer, OPS.numpy.Take):
            refuse(call, why, "take the last step, x[:, -1], and train again")
        refuse(
            call,
            why,
            "use keras.ops.sum, mean or max over time, axis=1, which are updated with each step, and train again",
        )


def _axis_of(call: LayerCall) -> Any:
    """The axis it works along; without such an argument, the last."""
    layer = call.layer
    return getattr(layer, "axes", None) if isinstance(layer, OPS.nn.Moments) else getattr(layer, "axis", -1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


_register(ELEMENTWISE, elementwise)
_register(ALONG_AXIS, along_axis)
_register(_NEW_AXIS, new_axis)

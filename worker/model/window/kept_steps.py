"""Which layers and operations keep the steps: axis 1 of what they give is, one by one, axis 1 of what they take.

A kind that is not here keeps nothing: what the steps have become is then not certain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from math import prod
from typing import Any, TypeAlias

from worker.model.backend import keras
from worker.model.graph import Tensor, tensors_in
from worker.model.layers.operations import ALONG_AXIS, ELEMENTWISE
from worker.model.layers.per_step import axes_of

L, OPS = keras.layers, keras.src.ops
STEPS = 1  # their axis

Keeps: TypeAlias = Callable[[Any, Any, Collection[int]], int]  # (operation, node, ids of tensors with steps)

_LIKE_THE_FIRST = (
    *(L.ReLU, L.LeakyReLU, L.ELU, L.PReLU, L.Identity, L.Activation, L.Softmax, L.Rescaling, L.Masking, L.Embedding),
    *(L.Dropout, L.AlphaDropout, L.GaussianNoise, L.GaussianDropout, L.ActivityRegularization, L.TimeDistributed),
    *(L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D, L.LayerNormalization, L.BatchNormalization),
    *(L.UnitNormalization, L.RMSNormalization, L.Normalization, L.GroupNormalization),
)  # fmt: skip
_FEATURES = (L.Dense, L.ReversibleEmbedding)  # work along the last axis, which must be another
_QUERIES = (L.Attention, L.AdditiveAttention, L.MultiHeadAttention, L.GroupQueryAttention, OPS.nn.DotProductAttention)
_RECURRENT = (L.RNN, L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM1D, L.ConvLSTM2D, L.ConvLSTM3D)
_SLIDING = (
    *(L.Conv1D, L.SeparableConv1D, L.DepthwiseConv1D, L.MaxPooling1D, L.AveragePooling1D),
    *(L.Conv2D, L.SeparableConv2D, L.DepthwiseConv2D, L.MaxPooling2D, L.AveragePooling2D, L.Conv3D),
)
_MERGING = (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum, L.Concatenate)
_IN_ORDER = (OPS.nn.Softmax, OPS.nn.LogSoftmax, OPS.numpy.Cumsum, OPS.numpy.Cumprod)  # also along the steps
_MORE_ALONG_AXIS = (OPS.numpy.Cumsum, OPS.numpy.Max, OPS.numpy.Mean, OPS.numpy.Min, OPS.numpy.Sum)


def keeps(operation: Any, node: Any, known: Collection[int]) -> int:
    """How many of the first outputs of this call have the steps; ``known``: ids of the tensors before that have."""
    rule = _RULES.get(type(operation))
    return 0 if rule is None else rule(operation, node, known)


def _given(node: Any) -> list[Tensor]:
    """Without masks."""
    named = {name: value for name, value in node.arguments.kwargs.items() if not name.endswith("mask")}
    return tensors_in((node.arguments.args, named))


def _first(node: Any, known: Collection[int]) -> Any:
    """The tensor that the call is about, if it has the steps, else None."""
    given = _given(node)
    return given[0] if given and id(given[0]) in known else None


def _like_the_first(operation: Any, node: Any, known: Collection[int]) -> int:
    return len(node.outputs) if _first(node, known) is not None else 0


def _features(operation: Any, node: Any, known: Collection[int]) -> int:
    tensor = _first(node, known)
    return int(tensor is not None and len(tensor.shape) > 2)


def _query(operation: Any, node: Any, known: Collection[int]) -> int:
    named = node.arguments.kwargs.get("query")
    return int(id(named) in known if named is not None else _first(node, known) is not None)


def _recurrent(operation: Any, node: Any, known: Collection[int]) -> int:
    """The steps come first, states behind them."""
    both = isinstance(operation, L.Bidirectional)
    layer = operation.forward_layer if both else operation
    in_order = type(layer) in _RECURRENT and layer.return_sequences and not layer.go_backwards
    outputs = 2 if both and operation.merge_mode is None else 1
    return outputs if in_order and _first(node, known) is not None else 0


def _sliding(operation: Any, node: Any, known: Collection[int]) -> int:
    """One by one, the last for the newest step; at padding "valid" the first are missing."""
    strides = operation.strides
    ahead = strides[0] if isinstance(strides, (tuple, list)) else strides
    fits = ahead == 1 and getattr(operation, "data_format", None) != "channels_first"
    return int(fits and _first(node, known) is not None)


def _joined(operation: Any, node: Any, known: Collection[int]) -> int:
    """Number by number: of one of them the steps come through, unless it is spread along them."""
    output = node.outputs[0]
    aligned = (each for each in _given(node) if id(each) in known and len(each.shape) == len(output.shape))
    return int(any(each.shape[STEPS] == output.shape[STEPS] for each in aligned))


def _merged(operation: Any, node: Any, known: Collection[int]) -> int:
    along = getattr(operation, "axis", -1)
    rank = len(node.outputs[0].shape)
    return 0 if isinstance(operation, L.Concatenate) and along % rank <= STEPS else _joined(operation, node, known)


def _along_axis(operation: Any, node: Any, known: Collection[int]) -> int:
    given = _given(node)
    axis = operation.axes if isinstance(operation, OPS.nn.Moments) else getattr(operation, "axis", -1)
    axes = axes_of(axis, len(given[0].shape)) if given else set()
    if not axes or 0 in axes or (STEPS in axes and not isinstance(operation, _IN_ORDER)):
        return 0
    if isinstance(operation, OPS.numpy.Concatenate):
        return _joined(operation, node, known)
    return _like_the_first(operation, node, known)


def _new_axis(operation: Any, node: Any, known: Collection[int]) -> int:
    given, axis = _given(node), operation.axis
    count = len(axis) if isinstance(axis, (list, tuple)) else 1
    behind = bool(given) and min(axes_of(axis, len(given[0].shape) + count)) > STEPS
    return int(behind and any(id(each) in known for each in given))


def _squeezed(operation: Any, node: Any, known: Collection[int]) -> int:
    tensor = _first(node, known)
    return int(tensor is not None and min(axes_of(operation.axis, len(tensor.shape)), default=0) > STEPS)


def _reshaped(operation: Any, node: Any, known: Collection[int]) -> int:
    """As many numbers for each step as before."""
    tensor = _first(node, known)
    if tensor is None:
        return 0
    before, after = tuple(tensor.shape), tuple(node.outputs[0].shape)
    if len(after) < 2 or None in before[2:] or None in after[2:]:
        return 0
    same = prod(before[2:]) == prod(after[2:]) and before[STEPS] == after[STEPS]
    return int(same and (before[STEPS] is not None or isinstance(operation, L.Reshape)))


def _permuted(operation: Any, node: Any, known: Collection[int]) -> int:
    order = (0, *operation.dims) if isinstance(operation, L.Permute) else tuple(operation.axes or ())
    return int(order[:2] == (0, STEPS) and _first(node, known) is not None)


def _swapped(operation: Any, node: Any, known: Collection[int]) -> int:
    tensor = _first(node, known)
    axes = (operation.axis1, operation.axis2)
    return int(tensor is not None and min(axes_of(axes, len(tensor.shape))) > STEPS)


def _cut(operation: Any, node: Any, known: Collection[int]) -> int:
    """All steps, and of each what is wanted."""
    tensor, key = _first(node, known), node.arguments.args[1] if len(node.arguments.args) > 1 else None
    if tensor is None or not isinstance(key, (tuple, list)):
        return 0
    lead = [part is Ellipsis or _is_whole(part) for part in key[:2]]
    begin = next((place + 1 for place, part in enumerate(key) if part is Ellipsis), len(key))
    behind = sum(part is not None for part in key[begin:])  # axes that are counted from the end
    first = next((place for place, part in enumerate(key[:2]) if part is Ellipsis), 1)
    return int(all(lead[: first + 1]) and behind <= len(tensor.shape) - 2)


def _is_whole(part: Any) -> bool:
    return isinstance(part, slice) and part.start is None and part.stop is None and part.step is None


def _product(operation: Any, node: Any, known: Collection[int]) -> int:
    """Of a product the rows are those of the left side."""
    given, tensor, output = _given(node), _first(node, known), node.outputs[0]
    left: Any = node.arguments.args[0] if node.arguments.args else None
    if tensor is None or left is not tensor or not 3 <= len(tensor.shape) == len(output.shape):
        return 0
    if isinstance(operation, OPS.numpy.Dot) and len(given) > 1:
        return 0
    same: bool = tensor.shape[STEPS] == output.shape[STEPS]
    return int(same)


def _einsum(operation: Any, node: Any, known: Collection[int]) -> int:
    sides, _, result = operation.subscripts.replace(" ", "").partition("->")
    if "." in sides or len(result) < 2:
        return 0
    pairs = zip(sides.split(","), node.arguments.args, strict=False)
    return int(any(id(each) in known and letters[:2] == result[:2] for letters, each in pairs))


def _einsum_dense(operation: Any, node: Any, known: Collection[int]) -> int:
    tensor = _first(node, known)
    if tensor is None:
        return 0
    given, weights, result = re.split(",|->", operation.equation.replace(" ", ""))
    if given.startswith("..."):
        return int(len(tensor.shape) - len(given.removeprefix("...")) >= 2)
    return int(given[:2] == result[:2] and given[STEPS] not in weights)


def _dot(operation: Any, node: Any, known: Collection[int]) -> int:
    """Of two sides, the axes of the first come first, without the one that is summed."""
    tensor = _first(node, known)
    if tensor is None or len(tensor.shape) < 3:
        return 0
    axes = operation.axes
    summed = axes if isinstance(axes, int) else axes[0]
    return int(summed % len(tensor.shape) > STEPS)


def _to_ids(operation: Any, node: Any, known: Collection[int]) -> int:
    return _like_the_first(operation, node, known) if operation.output_mode == "int" else 0


def _listed(names: dict[Any, str]) -> tuple[Any, ...]:
    return tuple(getattr(module, name) for module, listed in names.items() for name in listed.split())


_RULES: dict[Any, Keeps] = {
    **dict.fromkeys(_LIKE_THE_FIRST, _like_the_first),
    **dict.fromkeys(_FEATURES, _features),
    **dict.fromkeys(_QUERIES, _query),
    **dict.fromkeys((*_RECURRENT, L.Bidirectional), _recurrent),
    **dict.fromkeys(_SLIDING, _sliding),
    **dict.fromkeys(_MERGING, _merged),
    **dict.fromkeys((*_listed(ELEMENTWISE), OPS.numpy.BroadcastTo), _joined),
    **dict.fromkeys((*_listed(ALONG_AXIS), *_MORE_ALONG_AXIS), _along_axis),
    **dict.fromkeys((OPS.numpy.ExpandDims, OPS.numpy.Stack, OPS.nn.OneHot), _new_axis),
    **dict.fromkeys((L.Reshape, OPS.numpy.Reshape), _reshaped),
    **dict.fromkeys((L.Permute, OPS.numpy.Transpose), _permuted),
    **dict.fromkeys((OPS.numpy.Matmul, OPS.numpy.Dot), _product),
    **dict.fromkeys((L.Discretization, L.Hashing, L.IntegerLookup), _to_ids),
    OPS.numpy.Squeeze: _squeezed, OPS.numpy.Swapaxes: _swapped, OPS.numpy.GetItem: _cut,
    OPS.numpy.Einsum: _einsum, L.EinsumDense: _einsum_dense, L.Dot: _dot,
}  # fmt: skip

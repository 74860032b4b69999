"""The operations of TensorFlow that a graph of Keras 2 may hold, as the operations of Keras 3 with the same result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from google.protobuf.message import DecodeError

from worker.model.backend import tf
from worker.model.files.configuration import Config


@dataclass(frozen=True, slots=True)
class Equal:
    """An operation of Keras 3 in place of one of TensorFlow.

    ``operands``: arguments behind the first that are tensors or numbers. ``settings``: the other arguments, by the
    names that Keras has for them. ``given``: TensorFlow's defaults for settings that the file omits: Keras' own may
    differ. ``same``: arguments that change nothing as long as they have this value.
    """

    kind: str
    module: str = "keras.src.ops.numpy"
    operands: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    given: Config = field(default_factory=dict)
    same: Config = field(default_factory=dict)


_NN, _CORE, _MATH, _LAYERS = "keras.src.ops.nn", "keras.src.ops.core", "keras.src.ops.math", "keras.layers"
_AXIS, _KEPT = {"axis": "axis"}, {"axis": "axis", "keepdims": "keepdims"}
_ALL_AXES: Config = {"axis": None}


def _unary(module: str, **names: str) -> dict[str, Equal]:
    return {f"{group}.{name}": Equal(kind, module) for name, kind in names.items() for group in ("math", "nn")}


def _pairs(**names: str) -> dict[str, Equal]:
    equals = {name: Equal(kind, operands=("y",)) for name, kind in names.items()}
    return {f"{group}.{name}": equal for name, equal in equals.items() for group in ("math", "__operators__")}


EQUALS: dict[str, Equal] = {
    **_pairs(add="Add", subtract="Subtract", sub="Subtract", multiply="Multiply", mul="Multiply"),
    **_pairs(truediv="TrueDivide", divide="TrueDivide", floordiv="FloorDivide", floormod="Mod", mod="Mod", pow="Power"),
    **_pairs(maximum="Maximum", minimum="Minimum", divide_no_nan="DivideNoNan", atan2="Arctan2"),
    **_pairs(greater="Greater", greater_equal="GreaterEqual", less="Less", less_equal="LessEqual"),
    **_pairs(equal="Equal", not_equal="NotEqual", logical_and="LogicalAnd", logical_or="LogicalOr"),
    **_pairs(gt="Greater", ge="GreaterEqual", lt="Less", le="LessEqual", eq="Equal", ne="NotEqual"),
    **_unary("keras.src.ops.numpy", abs="Absolute", negative="Negative", square="Square", sqrt="Sqrt", exp="Exp"),
    **_unary("keras.src.ops.numpy", expm1="Expm1", log="Log", log1p="Log1p", sign="Sign", floor="Floor", ceil="Ceil"),
    **_unary("keras.src.ops.numpy", round="Round", reciprocal="Reciprocal", sin="Sin", cos="Cos", tan="Tan"),
    **_unary("keras.src.ops.numpy", asin="Arcsin", acos="Arccos", atan="Arctan", sinh="Sinh", cosh="Cosh", tanh="Tanh"),
    **_unary("keras.src.ops.numpy", logical_not="LogicalNot", is_nan="Isnan", is_finite="Isfinite", is_inf="Isinf"),
    **_unary(_MATH, rsqrt="Rsqrt", erf="Erf"),
    **_unary(_NN, relu="Relu", relu6="Relu6", selu="Selu", sigmoid="Sigmoid", softplus="Softplus", softsign="Softsign"),
    **_unary(_NN, elu="Elu", log_sigmoid="LogSigmoid"),
    "__operators__.neg": Equal("Negative"),
    "__operators__.abs": Equal("Absolute"),
    "compat.v1.floor_div": Equal("FloorDivide", operands=("y",)),
    "nn.silu": Equal("Silu", _NN, same={"beta": 1.0}),
    "nn.swish": Equal("Silu", _NN, same={"beta": 1.0}),
    "nn.gelu": Equal("Gelu", _NN, settings={"approximate": "approximate"}, given={"approximate": False}),
    "nn.leaky_relu": Equal("LeakyRelu", _NN, settings={"alpha": "negative_slope"}, given={"negative_slope": 0.2}),
    "nn.softmax": Equal("Softmax", _NN, settings=_AXIS, given={"axis": -1}),
    "nn.log_softmax": Equal("LogSoftmax", _NN, settings=_AXIS, given={"axis": -1}),
    "nn.bias_add": Equal("Add", operands=("bias",)),
    # x · min(rsqrt(sum of squares), 1/e), where TensorFlow has rsqrt(max(sum of squares, e²))
    "math.l2_normalize": Equal("Normalize", _NN, settings=_AXIS, given={**_ALL_AXES, "epsilon": 1e-6}, same={
        "epsilon": 1e-12
    }),
    **{
        f"math.reduce_{name}": Equal(kind, settings=_KEPT, given=_ALL_AXES)
        for name, kind in {
            "mean": "Mean", "sum": "Sum", "max": "Max", "min": "Min", "prod": "Prod", "any": "Any", "all": "All",
            "std": "Std", "variance": "Var",
        }.items()
    },
    "math.reduce_logsumexp": Equal("Logsumexp", _MATH, settings=_KEPT, given=_ALL_AXES),
    "math.argmax": Equal("Argmax", settings=_AXIS, given={"axis": 0}, same={"output_type": ("int32", "int64")}),
    "math.argmin": Equal("Argmin", settings=_AXIS, given={"axis": 0}, same={"output_type": "int64"}),
    "math.cumsum": Equal("Cumsum", settings=_AXIS, given={"axis": 0}, same={"exclusive": False, "reverse": False}),
    "concat": Equal("Concatenate", settings=_AXIS),
    "stack": Equal("Stack", settings=_AXIS, given={"axis": 0}),
    "unstack": Equal("Unstack", _CORE, settings={"axis": "axis", "num": "num"}, given={"axis": 0}),
    "split": Equal("Split", settings={"num_or_size_splits": "indices_or_sections", "axis": "axis"}, given={"axis": 0}),
    "expand_dims": Equal("ExpandDims", settings=_AXIS),
    "squeeze": Equal("Squeeze", settings=_AXIS, given=_ALL_AXES),
    "transpose": Equal("Transpose", settings={"perm": "axes"}, given={"axes": None}, same={"conjugate": False}),
    "reshape": Equal("Reshape", settings={"shape": "newshape"}),
    "gather": Equal("Take", operands=("indices",), settings=_AXIS, given={"axis": 0}, same={"batch_dims": 0}),
    "one_hot": Equal("OneHot", _NN, settings={"depth": "num_classes", "axis": "axis", "dtype": "dtype"}, given={
        "axis": -1, "dtype": "float32",
    }),
    "clip_by_value": Equal("Clip", settings={"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "cast": Equal("Cast", _CORE, settings={"dtype": "dtype"}),
    "zeros_like": Equal("ZerosLike", same={"optimize": True}),
    "ones_like": Equal("OnesLike", same={"optimize": True}),
    "where": Equal("Where", operands=("x", "y")),
    "linalg.matmul": Equal("Matmul", operands=("b",), same=dict.fromkeys(
        ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b", "a_is_sparse", "b_is_sparse"), False
    )),
    "identity": Equal("Identity", _LAYERS),
    "stop_gradient": Equal("StopGradient", _CORE),
    "math.add_n": Equal("Add", _LAYERS),
}  # fmt: skip

_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
# Operations of the graph itself, as TensorFlow 2.0 to 2.3 kept them.
_OF_NODES = {
    "AddV2": "math.add", "Add": "math.add", "Sub": "math.subtract", "Mul": "math.multiply", "RealDiv": "math.truediv",
    "Maximum": "math.maximum", "Minimum": "math.minimum", "Pow": "math.pow", "Greater": "math.greater",
    "Less": "math.less", "Neg": "math.negative", "Abs": "math.abs", "Square": "math.square", "Sqrt": "math.sqrt",
    "Rsqrt": "math.rsqrt", "Exp": "math.exp", "Log": "math.log", "Tanh": "math.tanh", "Sigmoid": "math.sigmoid",
    "Relu": "nn.relu", "Relu6": "nn.relu6", "Elu": "nn.elu", "Selu": "nn.selu", "Softplus": "math.softplus",
    "Softsign": "nn.softsign", "Softmax": "nn.softmax", "LogSoftmax": "nn.log_softmax", "Identity": "identity",
    "BiasAdd": "nn.bias_add", "Mean": "math.reduce_mean", "Sum": "math.reduce_sum", "Max": "math.reduce_max",
    "Min": "math.reduce_min", "ConcatV2": "concat", "ExpandDims": "expand_dims",
}  # fmt: skip


def node_of(config: Config) -> Config:
    """{op, attr} of a node, which TensorFlow 2.0 and 2.1 wrote as a message in its own form."""
    node = config.get("node_def")
    if isinstance(node, dict):
        return node
    try:
        message = tf.compat.v1.NodeDef.FromString(str(node).encode())
    except DecodeError:
        return {}
    return {"op": message.op, "attr": {name: {"i": value.i, "b": value.b} for name, value in message.attr.items()}}


def of_node(config: Config, entries: list[Any]) -> tuple[str, list[Any], Config]:
    """A node of TensorFlow 2.0 to 2.3 as a function: its name, its first operands, and its other arguments."""
    node = node_of(config)
    operands: list[Any] = list(entries)
    for index, value in sorted((config.get("constants") or {}).items(), key=lambda item: int(item[0])):
        array = value["config"]["value"] if isinstance(value, dict) else value
        operands.insert(int(index), ["_CONSTANT_VALUE", -1, array, {}])
    values = [operand[2] for operand in operands]
    attributes, op = node.get("attr") or {}, str(node.get("op"))
    function = _OF_NODES.get(op, "")
    equal = EQUALS.get(function)
    if op == "StridedSlice" and len(operands) == 4:
        return "__operators__.getitem", operands[:1], {"slice_spec": _slices(attributes, *values[1:])}
    if op == "ConcatV2":
        return function, operands[:-1], {"axis": values[-1]}
    if equal and len(operands) == 2 and equal.operands:
        one = operands[1]
        return function, operands[:1], {equal.operands[0]: one[2] if one[0] == "_CONSTANT_VALUE" else one[:3]}
    if equal and len(operands) == 2:  # the axis it works along
        kept = bool((attributes.get("keep_dims") or {}).get("b"))
        return function, operands[:1], {"axis": values[1], **({"keepdims": True} if kept else {})}
    return function if len(operands) == 1 else "", operands, {}


def _slices(attributes: Config, begin: list[int], end: list[int], step: list[int]) -> list[Any]:
    """x[begin:end:step, ...] as it was written; bit n of a mask is about axis n."""
    mask = {name: int((attributes.get(name) or {}).get("i", 0)) for name in _MASKS}
    spec: list[Any] = []
    for axis, (first, last, by) in enumerate(zip(begin, end, step, strict=True)):
        bit = 1 << axis
        if mask["ellipsis_mask"] & bit:
            spec.append({"class_name": "__ellipsis__"})
        elif mask["new_axis_mask"] & bit:
            spec.append(None)
        elif mask["shrink_axis_mask"] & bit:
            spec.append(first)
        else:
            start = None if mask["begin_mask"] & bit else first
            spec.append({"start": start, "stop": None if mask["end_mask"] & bit else last, "step": by})
    return spec


def equal_of(function: str) -> Equal | None:
    """Of a function's name below tf; the old names of the same are under compat.v1."""
    return EQUALS.get(function) or EQUALS.get(function.removeprefix("compat.v1."))


def settings_of(equal: Equal, given: Config) -> tuple[Config, str]:
    """How to make the operation of Keras, from the arguments in the file; and, in words, those without an equal."""
    found, odd = dict(equal.given), []
    for name, value in sorted(given.items()):
        same = equal.same.get(name, ())
        if name in equal.same and (value in same if isinstance(same, tuple) else value == same):
            continue
        if name == "validate_indices":
            continue
        if name not in equal.settings or not _is_plain(value):
            odd.append(name)
        else:
            found[equal.settings[name]] = value
    sizes = found.get("indices_or_sections")
    if isinstance(sizes, list):  # sizes in TensorFlow, the places between them in Keras
        if -1 in sizes:
            odd.append("a size of -1")
        found["indices_or_sections"] = list(accumulate(sizes))[:-1]
    axis = found.get("axis")
    if equal.kind in ("Squeeze", "Mean", "Sum", "Max", "Min") and isinstance(axis, list) and len(axis) == 1:
        found["axis"] = axis[0]
    if odd:
        return found, f" with {', '.join(odd)}"
    missing = [name for name, its in equal.settings.items() if its not in found and its not in ("keepdims", "num")]
    return found, f" without {', '.join(missing)}" if missing else ""


def _is_plain(value: Any) -> bool:
    values: Iterable[Any] = value if isinstance(value, list) else [value]
    return all(isinstance(one, int | float | str | bool) for one in values) and not (
        isinstance(value, list) and value and isinstance(value[0], str)
    )

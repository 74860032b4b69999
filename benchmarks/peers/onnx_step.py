"""One step of LSTM → LSTM → Dense(sigmoid) as a graph for ONNX Runtime, from the arrays of weights.py.

python benchmarks/peers/onnx_step.py WEIGHTS.npz STEP.onnx
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper


def onnx_step(weights: dict[str, Any]) -> Any:
    """x (1, features), state (1, width) → y (1, 1), next state (1, width); the ONNX operator LSTM, one step of it."""
    nodes, constants, states, x = [], [], [], "x_time"

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    sizes = [weights[f"recurrent{number}"].shape[0] for number in range(int(weights["layers"]))]
    parts = [f"{kind}{number}" for number in range(len(sizes)) for kind in ("h", "c")]
    nodes.append(
        helper.make_node("Split", ["state", constant("sizes", np.repeat(sizes, 2).astype(np.int64))], parts, axis=1)
    )
    nodes.append(helper.make_node("Unsqueeze", ["x", constant("time", np.array([0], np.int64))], ["x_time"]))
    for number, units in enumerate(sizes):
        kernel, recurrent = (_reordered(weights[f"{name}{number}"].T)[np.newaxis] for name in ("kernel", "recurrent"))
        bias = np.concatenate([_reordered(weights[f"bias{number}"]), np.zeros(4 * units, np.float32)])[np.newaxis]
        given = []
        for kind in ("h", "c"):
            nodes.append(helper.make_node("Unsqueeze", [f"{kind}{number}", "time"], [f"{kind}{number}_in"]))
            given.append(f"{kind}{number}_in")
        names = [constant(f"w{number}", kernel), constant(f"r{number}", recurrent), constant(f"b{number}", bias)]
        outputs = [f"y{number}", f"h{number}_out", f"c{number}_out"]
        nodes.append(helper.make_node("LSTM", [x, *names, "", *given], outputs, hidden_size=units))
        for kind in ("h", "c"):
            nodes.append(helper.make_node("Squeeze", [f"{kind}{number}_out", "time"], [f"{kind}{number}_after"]))
            states.append(f"{kind}{number}_after")
        x = f"h{number}_out"
    nodes.append(helper.make_node("Squeeze", [x, "time"], ["last"]))
    nodes.append(
        helper.make_node(
            "Gemm",
            ["last", constant("dense", weights["dense"]), constant("dense_bias", weights["dense_bias"])],
            ["logit"],
        )
    )
    nodes.append(helper.make_node("Sigmoid", ["logit"], ["y"]))
    nodes.append(helper.make_node("Concat", states, ["state_after"], axis=1))
    features, width = weights["kernel0"].shape[0], 2 * sum(sizes)

    def tensor(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size])

    graph = helper.make_graph(
        nodes, "step", [tensor("x", features), tensor("state", width)], [tensor("y", 1), tensor("state_after", width)],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model, full_check=True)
    return model


def _reordered(gates: Any) -> Any:
    """Along the first axis Keras has the gates i, f, c, o, and ONNX i, o, f, c."""
    i, f, c, o = np.split(gates, 4, axis=0)
    return np.concatenate([i, o, f, c])


def main(weights: str, file: str) -> None:
    with np.load(weights) as loaded:
        onnx.save(onnx_step({name: loaded[name] for name in loaded.files}), file)


if __name__ == "__main__":
    main(*sys.argv[1:])

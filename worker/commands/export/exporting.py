"""Writes the explicit-state model as an ordinary Keras file, which has its name only once plain Keras has read it."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.assembly.model import feature_fields, load_model, unforeseen_as_one_line
from worker.assembly.model_inputs import InputReport, OutputReport, inputs_of, outputs_of
from worker.config.sections import Config
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.own_objects import within
from worker.model.streaming import StreamingModel
from worker.records.arrays import FloatArray

PROOF_ROWS = 4
STEPS_BEFORE_PROOF = 5  # so that the proof begins with states that the model can reach
DIFFERENCE_LIMIT = 1e-6


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output, in order: ``shape`` with the open batch axis as None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Exported:
    """``output`` is the file, ``initial`` the states that don't begin at zero, ``needs`` what its reader must know.

    ``parts_of_x`` and ``parts_of_y`` are the trained model's inputs and outputs: which numbers of x and y are whose.
    ``max_abs_difference`` is between the file, read with plain Keras, and the streaming model; one step.
    """

    model: str
    output: str
    sha256: str
    trained_sha256: str
    inputs: list[Port]
    outputs: list[Port]
    parts_of_x: list[InputReport]
    parts_of_y: list[OutputReport]
    initial: dict[str, list[Any]]
    needs: list[str]
    has_lambda: bool
    parity: float
    max_abs_difference: float

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {"ok": True, **asdict(self), "problems": []}


def export(config: Config, output: Path) -> Exported:
    """Load, prove, write, read again, compare, and only then give the file its name; another file of it is replaced.

    Raises ConfigError, WorkerError, ModelRefusedError.
    """
    _check_output(config, output)
    model = load_model(config)
    with unforeseen_as_one_line("proven", config):
        parity = model.check_parity(config.model.parity_tolerance)
    # Keras looks at the suffix.
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.keras")
    try:
        with unforeseen_as_one_line("exported", config):
            model.to_keras().save(temporary)
            difference = _compare(model, temporary, config)
        digest = _publish(temporary, output)
    except OSError as error:
        raise WorkerError(f"--output {output}: can't be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    inputs = [Port(tensor.name, tuple(tensor.shape), tensor.dtype) for tensor in model.to_keras().inputs]
    return Exported(
        model=str(config.model.path),
        output=str(output),
        sha256=digest,
        trained_sha256=model.sha256 or "",
        inputs=inputs,
        outputs=_outputs(model, inputs),
        parts_of_x=inputs_of(model, feature_fields(config, model)),
        parts_of_y=outputs_of(model),
        initial=_initial(model, inputs),
        needs=sorted({f"{one.__module__}.{one.__name__}" for one in within(model.to_keras()).values()}),
        has_lambda=bool(model.trained.code),
        parity=parity.max_abs_difference,
        max_abs_difference=difference,
    )


def _check_output(config: Config, output: Path) -> None:
    """Refuse known mistakes before the seconds that loading a model takes."""
    trained = config.model.path
    if output.is_dir():
        raise WorkerError(f"--output {output}: this is a directory", "name a file in it")
    if not output.parent.is_dir():
        raise WorkerError(f"--output {output}: there is no folder '{output.parent}'", "make it first")
    if isinstance(trained, Path) and output.exists() and trained.exists() and output.samefile(trained):
        raise WorkerError(f"--output {output}: this is model.path, the trained model", "write to another file")


def _compare(model: StreamingModel, file: Path, config: Config) -> float:
    """The greatest difference of one step between the file, read with plain Keras, and the streaming model."""
    xs = model.samples(PROOF_ROWS, STEPS_BEFORE_PROOF + 1, seed=1).swapaxes(0, 1)
    x, states = xs[-1], model.scan(xs[:-1], model.zero_states(PROOF_ROWS))[1]
    y, after = model.step(x, states)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = keras.models.load_model(
            file, compile=False, safe_mode=not config.model.allow_lambda, custom_objects=within(model.to_keras())
        )
    shape = plain.inputs[0].shape[1:]
    given = [
        keras.ops.cast(keras.ops.convert_to_tensor(value), tensor.dtype)
        for value, tensor in zip([x.reshape(PROOF_ROWS, *shape), *states], plain.inputs, strict=True)
    ]
    found = [_flat(value) for value in plain(given, training=False)]
    pairs = list(zip(found, [_flat(value) for value in (y, *after)], strict=True))
    limit = config.model.parity_tolerance if model.trained.half else DIFFERENCE_LIMIT
    if not all(np.allclose(one, two, rtol=limit, atol=limit) for one, two in pairs):
        worst = max(float(np.abs(one - two).max()) for one, two in pairs)
        raise WorkerError(
            f"model {config.model.path}: read again, the exported file differs by {worst:.3g} from the streaming "
            f"model, more than {limit:g}, and was not kept",
            "report this model as a bug",
        )
    return max(float(np.abs(one - two).max()) for one, two in pairs)


def _flat(value: Any) -> FloatArray:
    """Rows of numbers, whatever their shape and type; numpy has no bfloat16."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float64"))).reshape(PROOF_ROWS, -1)


def _publish(temporary: Path, output: Path) -> str:
    """The file gets its name, whole or not at all; its SHA-256."""
    with temporary.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    temporary.replace(output)
    folder = os.open(output.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest


def _outputs(model: StreamingModel, inputs: list[Port]) -> list[Port]:
    """Keras names outputs by layer, several alike: here each state has the name of its input."""
    names = ["y", *(port.name for port in inputs[1:])]
    tensors = model.to_keras().outputs
    return [Port(name, tuple(t.shape), t.dtype) for name, t in zip(names, tensors, strict=True)]


def _initial(model: StreamingModel, inputs: list[Port]) -> dict[str, list[Any]]:
    """A new stream's states that are not zero; text for numbers that JSON can't express."""
    rows = [state[0] for state in model.zero_states(1)]
    return {port.name: _plain(row.tolist()) for port, row in zip(inputs[1:], rows, strict=True) if np.any(row)}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if np.isfinite(value) else str(value)

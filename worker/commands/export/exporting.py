"""Writes the explicit-state model as an ordinary Keras file, which has its name only once plain Keras has read it."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.assembly.model import feature_fields, load_model, unforeseen_as_one_line
from worker.assembly.model_inputs import InputReport, OutputReport, inputs_of, outputs_of
from worker.assembly.text_model import model_name
from worker.commands.export.files import Port, check_output, own_classes, ports_of, publish
from worker.config.sections import Config
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.generative import GenerativeModel
from worker.model.own_objects import within
from worker.model.streaming import StreamingModel
from worker.records.arrays import FloatArray

PROOF_ROWS = 4
STEPS_BEFORE_PROOF = 5  # so that the proof begins with states that the model can reach
DIFFERENCE_LIMIT = 1e-6


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
    check_output(config, output)
    model = _loaded(config)
    with unforeseen_as_one_line("proven", config):
        parity = model.check_parity(config.model.parity_tolerance)
    # Keras looks at the suffix.
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.keras")
    try:
        with unforeseen_as_one_line("exported", config):
            model.to_keras().save(temporary)
            difference = _compare(model, temporary, config)
        digest = publish(temporary, output)
    except OSError as error:
        raise WorkerError(f"--output {output}: can't be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    inputs = ports_of(model.to_keras().inputs)
    return Exported(
        model=model_name(config),
        output=str(output),
        sha256=digest,
        trained_sha256=model.sha256 or "",
        inputs=inputs,
        outputs=_outputs(model, inputs),
        parts_of_x=inputs_of(model, feature_fields(config, model)) if config.model.task == "score" else [],
        parts_of_y=outputs_of(model) if config.model.task == "score" else [],
        initial=_initial(model, inputs),
        needs=own_classes(model.to_keras()),
        has_lambda=bool(model.trained.code),
        parity=parity.max_abs_difference,
        max_abs_difference=difference,
    )


def _loaded(config: Config) -> StreamingModel:
    """The model that a stream is stepped with. Of task generate the one inside, whose y may be logits."""
    loaded = load_model(config)
    if isinstance(loaded, StreamingModel):
        return loaded
    assert isinstance(loaded.model, GenerativeModel), "a pair is exported as two files"
    return loaded.model.streaming


def _compare(model: StreamingModel, file: Path, config: Config) -> float:
    """The greatest difference of one step between the file, read with plain Keras, and the streaming model."""
    before = model.first_answer - 1 if model.waits else STEPS_BEFORE_PROOF
    scanned = before if model.window is None else min(before, model.window.steps)
    xs = model.samples(PROOF_ROWS, scanned + 1, seed=1).swapaxes(0, 1)
    x, states = xs[-1], model.scan(xs[:-1], model.zero_states(PROOF_ROWS))[1]
    if model.window is not None:  # its count is beside the events, and may say more
        states[-1] = model.window.after(np.zeros((PROOF_ROWS, 1), states[-1].dtype), before)
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
    answered = [np.ones((PROOF_ROWS, 1))] if model.waits else []
    pairs = list(zip(found, [_flat(value) for value in (np.ma.filled(y, 0), *answered, *after)], strict=True))
    limit = config.model.parity_tolerance if model.trained.half else DIFFERENCE_LIMIT
    if not all(np.allclose(one, two, rtol=limit, atol=limit) for one, two in pairs):
        worst = max(float(np.abs(one - two).max()) for one, two in pairs)
        raise WorkerError(
            f"model {model_name(config)}: read again, the exported file differs by {worst:.3g} from the streaming "
            f"model, more than {limit:g}, and was not kept",
            "report this model as a bug",
        )
    return max(float(np.abs(one - two).max()) for one, two in pairs)


def _flat(value: Any) -> FloatArray:
    """Rows of numbers, whatever their shape and type; numpy has no bfloat16."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(value, "float64"))).reshape(PROOF_ROWS, -1)


def _outputs(model: StreamingModel, inputs: list[Port]) -> list[Port]:
    """Keras names outputs by layer, several alike: here each state has the name of its input."""
    names = ["y", *(["answered"] if model.waits else []), *(port.name for port in inputs[1:])]
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

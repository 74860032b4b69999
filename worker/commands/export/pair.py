"""Writes an encoder and a decoder as two ordinary Keras files, which have their names once they were read again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worker.assembly.model import load_model, unforeseen_as_one_line
from worker.assembly.text_model import TextModel, model_name
from worker.commands.export.files import Port, check_output, own_classes, ports_of, publish
from worker.config.sections import Config
from worker.errors import WorkerError
from worker.model.backend import keras
from worker.model.encoder_decoder import EncoderDecoder
from worker.model.inputs import InputPart
from worker.model.item_ports import vectors_of_ids
from worker.model.own_objects import within
from worker.model.proof.parity import Parity
from worker.records.arrays import FloatArray, IntArray

PROOF_SOURCES, PROOF_ITEMS = 4, 12
SIDES = ("encoder", "decoder")
ops = keras.ops


@dataclass(frozen=True, slots=True)
class ExportedSide:
    """One of the two files: ``inputs`` and ``outputs`` in order, ``needs`` what its reader must know."""

    output: str
    sha256: str
    inputs: list[Port]
    outputs: list[Port]
    needs: list[str]


@dataclass(frozen=True, slots=True)
class ExportedPair:
    """``max_abs_difference``: between the files, read again as a pair, and the model; of probabilities."""

    model: str
    encoder: ExportedSide
    decoder: ExportedSide
    trained_sha256: str
    parity: float
    max_abs_difference: float

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {"ok": True, **asdict(self), "problems": []}


def names_of(output: Path) -> tuple[Path, Path]:
    """The files that ``--output NAME.keras`` stands for: NAME-encoder.keras and NAME-decoder.keras."""
    encoder, decoder = (output.with_name(f"{output.stem}-{side}{output.suffix}") for side in SIDES)
    return encoder, decoder


def export_pair(config: Config, output: Path) -> ExportedPair:
    """Load, prove, write both, read again, compare, and only then give the files their names.

    Raises ConfigError, WorkerError, ModelRefusedError.
    """
    files = names_of(output)
    for file in files:
        check_output(config, file)
    loaded = load_model(config)
    assert isinstance(loaded, TextModel)
    model = loaded.model
    assert isinstance(model, EncoderDecoder), "task generate has one file"
    with unforeseen_as_one_line("proven", config):
        parity = model.check_parity(config.model.parity_tolerance)
    temporary = [file.with_name(f".{file.stem}.{os.getpid()}.keras") for file in files]  # Keras looks at the suffix
    try:
        with unforeseen_as_one_line("exported", config):
            for one, file in zip(model.to_keras(), temporary, strict=True):
                one.save(file)
            difference = _compare(model, temporary, config)
        digests = [publish(one, file) for one, file in zip(temporary, files, strict=True)]
    except OSError as error:
        raise WorkerError(f"--output {output}: can't be written ({error.strerror or error})") from error
    finally:
        for file in temporary:
            file.unlink(missing_ok=True)
    return _exported(config, model, files, digests, parity, difference)


def _exported(
    config: Config,
    model: EncoderDecoder,
    files: tuple[Path, Path],
    digests: list[str],
    parity: Parity,
    difference: float,
) -> ExportedPair:
    pair = model.to_keras()
    states = [tensor.name for tensor in pair[1].inputs[1:]]  # Keras names outputs by layer, several alike
    sides = [
        ExportedSide(str(file), digest, ports_of(one.inputs), _named(one.outputs, names), own_classes(one))
        for one, file, digest, names in zip(pair, files, digests, (states, ["y", *states]), strict=True)
    ]
    return ExportedPair(
        model_name(config), sides[0], sides[1], model.sha256 or "", parity.max_abs_difference, difference
    )


def _named(tensors: Sequence[Any], names: Sequence[str]) -> list[Port]:
    return [replace(port, name=name) for port, name in zip(ports_of(tensors), names, strict=True)]


def _compare(model: EncoderDecoder, files: list[Path], config: Config) -> float:
    """The greatest difference of a probability between the files, as plain Keras runs them, and the model.

    Random sources, each given to the encoder as a whole, then random items one by one.
    """
    encoder, decoder = (
        keras.models.load_model(
            file, compile=False, safe_mode=not config.model.allow_lambda, custom_objects=within(saved)
        )
        for file, saved in zip(files, model.to_keras(), strict=True)
    )
    rng = np.random.default_rng(1)
    rows, length = (size or free for size, free in zip(encoder.inputs[0].shape, (1, PROOF_ITEMS), strict=False))
    worst = 0.0
    for _ in range(PROOF_SOURCES):
        source = _source(model.encoder.part, length, rng)
        given = np.repeat(np.reshape(source, (1, length, *encoder.inputs[0].shape[2:])), rows, axis=0)
        plain = [state[:1] for state in _run(encoder, [given])]
        states = model.encode([source])
        for token in rng.integers(0, model.units, PROOF_ITEMS):
            item = vectors_of_ids(np.array([[token]]), model.units, model.one_hot)
            item = item.reshape(1, 1, *decoder.inputs[0].shape[2:])
            answer, *plain = _run(decoder, [item, *plain])
            y, states = model.step([token], states)
            worst = float(np.maximum(worst, np.abs(_probabilities(answer, model.logits) - y[0]).max()))  # or NaN
    limit = config.model.parity_tolerance
    if not worst <= limit:
        raise WorkerError(
            f"model {model_name(config)}: read again with plain Keras, the exported files differ by {worst:.3g} from "
            f"the model, more than {limit:g}, and were not kept",
            "report this model as a bug",
        )
    return worst


def _run(plain: Any, given: Sequence[Any]) -> list[Any]:
    inputs = [ops.cast(ops.convert_to_tensor(one), x.dtype) for one, x in zip(given, plain.inputs, strict=True)]
    return list(keras.tree.flatten(plain(inputs[0] if len(inputs) == 1 else inputs, training=False)))


def _probabilities(answer: Any, logits: bool) -> FloatArray:
    y = np.asarray(ops.convert_to_numpy(ops.cast(answer, "float64"))).reshape(-1)
    found = np.exp(y - y.max()) if logits else y
    return np.asarray(found / found.sum())


def _source(part: InputPart, length: int, rng: np.random.Generator) -> IntArray | FloatArray:
    if part.ids is not None:
        return rng.integers(0, part.ids, length)
    return rng.normal(size=(length, part.width))

"""Encoder and decoder given as two models, as the tutorials save them: what the one answers the other must take."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelRefusedError, WorkerError, counted
from worker.model.backend import keras
from worker.model.files.loading import load_model
from worker.model.files.own import Objects
from worker.model.graph import graph_of
from worker.model.pair.one_step import AS_SAVED
from worker.records.model_url import shown
from worker.records.names import joint_digest


def load_two(
    paths: tuple[str, str], sha256: str | None, allow_lambda: bool, custom_objects: Objects
) -> tuple[list[Any], str]:
    """The models of encoder and decoder; the SHA-256 of those of the two files, in hexadecimal one after the other.

    Raises WorkerError, of another SHA-256 too.
    """
    loaded = [load_model(path, allow_lambda=allow_lambda, custom_objects=custom_objects) for path in paths]
    digest = joint_digest(each for _, each in loaded)
    if sha256 is not None and digest != sha256.strip().lower():
        names = ", ".join(map(shown, paths))
        raise WorkerError(
            f"models {names}: the SHA-256 of both is {digest}, model.sha256 says {sha256}", "they are not used"
        )
    return [model for model, _ in loaded], digest


def joined(encoder: Any, decoder: Any, names: tuple[str, str]) -> Any:
    """The encoder with the decoder's first states alone as its outputs; other outputs before them are left out.

    ``names``: what to call the two, the files most often. Raises ModelRefusedError, with all mismatches in one line.
    """
    given, wanted = graph_of(encoder), graph_of(decoder).inputs[1:]
    if not wanted:
        raise ModelRefusedError(
            "", f"{names[1]} has one input: a decoder takes its states beside the item before", AS_SAVED
        )
    if len(given.outputs) < len(wanted):
        raise ModelRefusedError(
            "",
            f"{names[0]} answers {counted(len(given.outputs), 'output')}, and {names[1]} takes "
            f"{counted(len(wanted), 'state')}",
            "save the encoder as keras.Model(source, states), with one output for each state of the decoder",
        )
    answers = given.outputs[-len(wanted) :]
    wrong = [
        f"state {number} is {shape_of(answer)} there and {shape_of(state)} ('{state.name}') here"
        for number, (answer, state) in enumerate(zip(answers, wanted, strict=True), 1)
        if shape_of(answer) != shape_of(state)
    ]
    if wrong:
        raise ModelRefusedError(
            "",
            f"the last outputs of {names[0]} are not the states of {names[1]}: {', '.join(wrong)}",
            "give the two files of one training, the states in the same order in both",
        )
    return keras.Model(given.inputs, answers, name=encoder.name)


def shape_of(tensor: Any) -> tuple[int | None, ...]:
    """Without the batch."""
    return tuple(tensor.shape[1:])

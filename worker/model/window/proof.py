"""The proof of the window form: each answer is the trained model's on the same window, cut out one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.errors import ModelRefusedError
from worker.model.backend import tf
from worker.model.failing import computable
from worker.model.graph import graph_of
from worker.model.graphs import as_graph
from worker.model.inputs import InputPart
from worker.model.proof.parity import Parity, answers_at_zero, worst
from worker.model.proof.samples import draw, split
from worker.model.rules import Time
from worker.model.window.form import WindowForm
from worker.records.arrays import FloatArray

STEPS_BEYOND = 10  # events after the first answer
ANSWERS_AT_ONCE = 16  # of all sequences


def proof_steps(form: WindowForm) -> int:
    """Until the window is full, and then some answers more."""
    window = form.window
    return max(window.steps, window.first_answer) + max(STEPS_BEYOND, 2 * window.every)


def samples(model: Any, parts: list[InputPart], sequences: int, steps: int, seed: int) -> FloatArray:
    """Random sequences (sequences, steps, features) that the trained model takes."""
    try:
        return draw(model, parts, sequences, steps, seed).vectors
    except ModelRefusedError:  # nobody can see what a subclassed model does to its input
        return np.random.default_rng(seed).normal(size=(sequences, steps, sum(part.width for part in parts)))


def measure(original: Any, form: WindowForm, sequences: int, steps: int, seed: int) -> Parity:
    """Random sequences, answered by a scan, step by step and alone, compared with the trained model on each window."""
    assert sequences > 0, "no sequences, no proof"
    assert steps > 0, "no steps, no proof"
    xs = np.swapaxes(samples(original, form.inputs, sequences, steps, seed), 0, 1).astype(form.dtype)
    zero = np.tile(form.layout.initial, (sequences, 1))
    sound = computable(sequences, lambda some: form.scan(xs[:, some], zero[some]))
    xs = xs[:, sound]
    ys, _ = form.scan(xs, zero)
    due = [time for time in range(1, steps + 1) if time >= form.window.first_answer and time % form.window.every == 0]
    wanted = _cut_out(form, xs, due)
    given = np.swapaxes(ys[np.array(due, np.int64) - 1, :, : form.units], 0, 1)
    difference, where = worst(given, wanted)
    if form.waits and int(ys[..., -1].sum()) != len(due) * sequences:
        difference, where = np.nan, "answered at other events"
    batching, where_batching = _others(form, xs, ys, zero)
    unbound = against_original(original, form, seed)
    found = [
        (difference, f"{where} answered, against the trained model on the same window"),
        (batching, f"{where_batching}, in a batch against alone, or a scan against steps"),
        (unbound, "a copy without states of its own against the trained model"),
    ]
    greatest, found_where = max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])
    largest = float(np.nanmax(np.abs(wanted), initial=0))
    return Parity(greatest, found_where, difference, batching, unbound, largest, sequences, steps)


def _cut_out(form: WindowForm, xs: FloatArray, due: list[int]) -> FloatArray:
    """(sequences, answers, units): the model called on the windows before these times, without anything of the form.

    The first are computed as Keras does it without a graph; long proofs have one for the rest.
    """
    steps, sequences = form.window.steps, xs.shape[1]
    filled = np.concatenate([np.zeros((steps, *xs.shape[1:]), xs.dtype), xs])
    specs = [
        tf.TensorSpec([None, *((steps,) if part.time is Time.EACH_STEP else ()), *part.shape], part.dtype)
        for part in form.inputs
    ]

    def plain(*given: Any) -> list[Any]:
        return form.opened.call(list(given))

    run = as_graph(plain, specs) if len(due) > ANSWERS_AT_ONCE else plain
    answers = [np.zeros((0, form.units))]
    for begin in range(0, len(due), ANSWERS_AT_ONCE):
        some = due[begin : begin + ANSWERS_AT_ONCE]
        vectors = np.concatenate([np.swapaxes(filled[time : time + steps], 0, 1) for time in some])
        for part in form.inputs:  # ``split`` takes what is constant from the first step; it is that of the last
            if part.time is Time.CONSTANT:
                vectors[:, 0, part.columns] = vectors[:, -1, part.columns]
        inputs = [tf.cast(array, spec.dtype) for array, spec in zip(split(form.inputs, vectors), specs, strict=True)]
        outputs = [np.asarray(tf.cast(y, tf.float64)) for y in (run if begin else plain)(*inputs)]
        last = [y[:, -1] if part.time is Time.EACH_STEP else y for y, part in zip(outputs, form.outputs, strict=True)]
        answers.append(np.concatenate([y.reshape(len(vectors), -1) for y in last], axis=1))
    return np.swapaxes(np.concatenate(answers).reshape(len(due), sequences, form.units), 0, 1)


def _others(form: WindowForm, xs: FloatArray, ys: FloatArray, zero: FloatArray) -> tuple[float, str]:
    """The scan of all sequences against that of each alone, and its end against steps."""
    alone = np.concatenate([form.scan(xs[:, at : at + 1], zero[:1])[0] for at in range(xs.shape[1])], axis=1)
    head = max(0, len(xs) - max(STEPS_BEYOND, form.window.every + 1))
    stepped, packed = [], form.scan(xs[:head], zero)[1]
    for x in xs[head:]:
        y, packed = form.step(x, packed)
        stepped.append(y)
    found = [
        worst(np.swapaxes(one, 0, 1), np.swapaxes(other, 0, 1))
        for one, other in ((ys, alone), (ys[head:], np.stack(stepped)))
    ]
    return max(found, key=lambda item: np.inf if np.isnan(item[0]) else item[0])


def against_original(original: Any, form: WindowForm, seed: int) -> float:
    if form.opened.model is original:
        return 0.0
    batch = next((tensor.shape[0] for tensor in graph_of(original).inputs if tensor.shape[0]), 2)
    inputs = split(form.inputs, samples(original, form.inputs, batch, form.window.steps, seed + 1))
    given = [np.asarray(y, np.float64) for y in form.opened.call(inputs)]
    wanted = answers_at_zero(original, inputs)
    differences = [worst(one, two)[0] for one, two in zip(given, wanted, strict=True)]
    return max(differences, key=lambda difference: np.inf if np.isnan(difference) else difference)

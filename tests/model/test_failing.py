"""An id that an Embedding inside the model does not know: the rows that hold it are named, all others are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.models import shaken
from worker import EncoderDecoder, GenerativeModel, StreamingModel
from worker.errors import WorkerError
from worker.model.backend import keras, tf
from worker.model.failing import failing_rows, reason_of
from worker.records.failing_rows import FailingRowsError

L, ops = keras.layers, keras.ops
KNOWN = 4
WORDS = "indices[0,0] = 9 is not in [0, 4)"


def numbers_and_ids(dtype: str, task: str) -> Any:
    source = keras.Input((None, 2), dtype=dtype)
    ids = L.Embedding(KNOWN, 3)(ops.cast(source[:, :, 0], "int32"))
    x = L.Concatenate()([ids, ops.cast(source[:, :, 1:], "float32")])
    h = L.GRU(5, return_sequences=task == "score")(x)
    if task == "score":
        return shaken(keras.Model(source, L.Dense(2, activation="softmax")(h)))
    target = keras.Input((None,), dtype="int32")
    y = L.GRU(5, return_sequences=True)(L.Embedding(7, 3)(target), initial_state=h)
    return shaken(keras.Model([source, target], L.Dense(7, activation="softmax")(y)))


@pytest.fixture(scope="module", params=["float32", "int32"])
def model(request: pytest.FixtureRequest) -> StreamingModel:
    return StreamingModel(numbers_and_ids(request.param, "score"))


@pytest.fixture(scope="module", params=["float32", "int32"])
def pair(request: pytest.FixtureRequest) -> EncoderDecoder:
    return EncoderDecoder(numbers_and_ids(request.param, "seq2seq"), start=1, stop=2)


@pytest.mark.parametrize(
    ("rows", "bad"), [(1, [0]), (2, [0, 1]), (7, [3]), (100, [0, 41, 42, 99]), (48, list(range(48)))]
)
def test_the_rows_to_blame_are_named_in_a_step_and_in_a_scan(model: StreamingModel, rows: int, bad: list[int]) -> None:
    rng = np.random.default_rng(rows)
    xs = rng.integers(0, KNOWN, (3, rows, 2)).astype(model.dtype)
    packed = rng.normal(size=(rows, model.state_width)).astype(model.dtype)
    xs[1, bad, 0] = 9
    with pytest.raises(FailingRowsError) as step:
        model.step_packed(xs[1], packed)
    resets = rng.random((3, rows)) < 0.3
    with pytest.raises(FailingRowsError) as scan:
        model.scan_packed(xs, packed, resets=resets)
    assert step.value.reasons == scan.value.reasons == dict.fromkeys(bad, WORDS)
    good = step.value.others(rows)
    if good.any():
        model.step_packed(xs[1][good], packed[good])
        model.scan_packed(xs[:, good], packed[good], resets=resets[:, good])


def test_what_is_not_stepped_is_not_to_blame(model: StreamingModel) -> None:
    xs, active = np.zeros((3, 2, 2), model.dtype), np.ones((3, 2), np.bool_)
    xs[2, 1, 0] = 9
    with pytest.raises(FailingRowsError) as failing:
        model.scan_packed(xs, np.tile(model.initial_row, (2, 1)), active=active)
    assert list(failing.value.reasons) == [1]


def test_python_is_told_the_row_or_the_source(model: StreamingModel, pair: EncoderDecoder) -> None:
    with pytest.raises(ValueError, match=r"^row 1: the model can't compute it \(.* = 9 is not in \[0, 4\)\)$"):
        model.step([[1, 1], [9, 1]], model.zero_states(2))
    with pytest.raises(ValueError, match=r"^source 2: the model can't compute its answer \(indices\[0,0\] = 9 is"):
        pair.encode([[[1, 1]], [[3, 0], [2, 0]], [[1, 0], [9, 0], [1, 0]]])


def test_a_source_that_is_read_as_a_whole() -> None:
    source, target = keras.Input((None, 2)), keras.Input((None,), dtype="int32")
    x = L.Embedding(KNOWN, 3)(ops.cast(source[:, :, 0], "int32"))
    h = L.Dense(5)(L.Bidirectional(L.GRU(4))(x))
    y = L.GRU(5, return_sequences=True)(L.Embedding(7, 3)(target), initial_state=h)
    pair = EncoderDecoder(shaken(keras.Model([source, target], L.Dense(7, activation="softmax")(y))))
    with pytest.raises(ValueError, match=r"^source 1: .*= 9 is not in \[0, 4\)\)$"):
        pair.encode([[[1, 1]], [[9, 0]]])


def test_items_of_texts() -> None:
    given = keras.Input((None,), dtype="int32")
    x = L.Embedding(7, 4)(given)
    places = ops.cumsum(ops.ones_like(x[:, :, :1]), axis=1)
    y = L.GRU(5, return_sequences=True)(x + L.Embedding(100, 4)(ops.cast(places[:, :, 0], "int32")))
    model = GenerativeModel(shaken(keras.Model(given, L.Dense(7, activation="softmax")(y))))
    model.generate_tokens([[1, 1, 1], [2, 1]], 2, temperature=0)
    with pytest.raises(ValueError, match=r"^row 1: .*= 100 is not in \[0, 100\)\)$"):
        model.generate_tokens([[1, 1], [2] * 98], 3, temperature=0)


def test_an_error_at_any_numbers_is_raised_as_it_is() -> None:
    error = tf.errors.InvalidArgumentError(None, None, "a broken machine")

    def fails(*_: Any) -> None:
        raise error

    def works(*_: Any) -> None:
        pass

    for run, sound in ((fails, fails), (works, works)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="a broken machine"):
            failing_rows(error, 5, run, sound)
    assert list(failing_rows(error, 5, fails, works).reasons) == [0, 1, 2, 3, 4]


def test_a_machine_at_its_limit_is_no_matter_of_rows() -> None:
    error = tf.errors.InvalidArgumentError(None, None, "some row")

    def exhausted(*_: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        failing_rows(error, 5, exhausted, exhausted)


@pytest.mark.parametrize("task", ["score", "seq2seq"])
def test_a_proof_says_it_as_a_record_would(task: str) -> None:
    """Without names of TensorFlow's functions. No random number is an id that this model knows."""
    given = keras.Input((None, 2))
    ids = L.Embedding(KNOWN, 3)(ops.cast(given[:, :, 0] * 1000 + 5000, "int32"))
    h = L.GRU(5, return_sequences=task == "score")(ids)
    model: StreamingModel | EncoderDecoder
    if task == "score":
        model = StreamingModel(shaken(keras.Model(given, L.Dense(2)(h))))
    else:
        target = keras.Input((None,), dtype="int32")
        y = L.GRU(5, return_sequences=True)(L.Embedding(7, 3)(target), initial_state=h)
        model = EncoderDecoder(shaken(keras.Model([given, target], L.Dense(7)(y))), start=1, stop=2)
    with pytest.raises(WorkerError, match=r"^parity: the trained model can't be run.*\(indices\[.*not in \[0, 4\)\)$"):
        model.parity(2, 3)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "{{function_node __inference_f_12}} indices[0,0] = 9 is not in [0, 4)\n\t [[{{node a/b}}]] [Op:F] name: ",
            WORDS,
        ),
        (
            "Graph execution error:\n\n2 root error(s) found.\n  (0) INVALID_ARGUMENT:  no\x1b[1m such id\n (1) …",
            "no such id",
        ),
        ("ValueError: bad\x07 one\nTraceback (most recent call last):", "ValueError: bad\\x07 one"),
        ("x" * 1000, "x" * 199 + "…"),
    ],
)
def test_what_tensorflow_says_is_shortened(said: str, told: str) -> None:
    assert reason_of(tf.errors.InvalidArgumentError(None, None, said)) == told

"""Feeding and drawing in one graph, against the same in numpy, and to the last bit whatever the batch and the calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.models import sequential
from worker.model.backend import keras, tf
from worker.model.decoding import LEAST_DRAWING_BLOCKS, PackedDecoder, part
from worker.model.sampling import HEAD_ITEMS, LARGE_ITEMS, Drawing, Sampler, softmax
from worker.model.streaming import StreamingModel
from worker.records.texts import NO_STOP, NO_TOKEN
from worker.records.writing import Writing, Written

L = keras.layers
V = 11  # not a multiple of anything that a processor likes
STOP = 6  # likely
ROWS, STEPS = 100, 12
TEMPERATURES = (0.0, 1.0, 0.5, 1.7, 1e-4)


@pytest.fixture(scope="module")
def model() -> StreamingModel:
    keras.utils.set_random_seed(3)
    layers = L.LSTM(9, kernel_initializer="normal"), L.Dense(V, activation="softmax", kernel_initializer="normal")
    streaming = StreamingModel(sequential(*layers, features=V))
    assert streaming.warm_up(300)
    return streaming


def decoder_of(model: StreamingModel, stop: int = NO_STOP, **limits: Any) -> PackedDecoder:
    return PackedDecoder(model._packed, Sampler(V, **limits), one_hot=True, stop=stop)


def writing_of(model: StreamingModel, rows: int = ROWS, steps: int = STEPS, seed: int = 0) -> Writing:
    """Rows that are fed and draw different numbers of items, at different temperatures, from a state of their own."""
    rng = np.random.default_rng(seed)
    packed = np.tanh(rng.normal(size=(rows, model.state_width))).astype(model.dtype)
    feeds = rng.integers(0, steps // 2, rows)
    return Writing(
        packed=packed,
        outputs=rng.dirichlet(np.ones(V), rows).astype(model.dtype),
        feed=rng.integers(0, V, (steps, rows)),
        feeds=feeds,
        draws=rng.integers(0, steps - feeds + 1),
        uniforms=rng.random((steps, rows)),
        temperatures=rng.choice(TEMPERATURES, rows),
    )


def drawn_by_numpy(p: Any, u: float, temperature: float, top_k: int | None = None, top_p: float | None = None) -> int:
    weights = np.asarray(p, np.float64)
    if temperature == 0:
        return int(np.argmax(weights))
    order = np.arange(len(weights))
    if (top_k or len(weights)) < len(weights) or top_p is not None:
        order = np.argsort(-weights, kind="stable")[: top_k or len(weights)]
    kept = (weights[order] / weights.max()) ** (1 / temperature)
    if top_p is not None:
        kept = kept[: int(np.searchsorted(np.cumsum(kept) / kept.sum(), top_p - 1e-12)) + 1]
    return int(order[np.searchsorted(np.cumsum(kept) / kept.sum(), u, side="right")])


def written_by_numpy(decoder: PackedDecoder, writing: Writing, **limits: Any) -> Written:
    """Item by item and row by row, with the decoder's single step."""
    rows = len(writing.feeds)
    tokens = np.full(writing.feed.shape, NO_TOKEN)
    packed, outputs = np.array(writing.packed), np.array(writing.outputs)
    for row in range(rows):
        feeds = int(writing.feeds[row])
        for step in range(feeds + int(writing.draws[row])):
            item = writing.feed[step, row]
            if step >= feeds:
                given = writing.uniforms[step, row], writing.temperatures[row]
                item = tokens[step, row] = drawn_by_numpy(outputs[row], *given, **limits)
            y, after = decoder.step(np.array([item]), packed[row : row + 1])
            outputs[row], packed[row] = y[0], after[0]
            if step >= feeds and item == decoder.stop:
                break
    return Written(tokens, packed, outputs, np.ones(rows, np.bool_))


def assert_same(given: Written, wanted: Written) -> None:
    np.testing.assert_array_equal(given.tokens, wanted.tokens)
    np.testing.assert_array_equal(given.packed, wanted.packed)
    np.testing.assert_array_equal(given.outputs, wanted.outputs)
    np.testing.assert_array_equal(given.finite, wanted.finite)


@pytest.mark.parametrize("stop", [NO_STOP, STOP])
@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 0.6}, {"top_k": 5, "top_p": 0.8}, {"top_k": 99}])
def test_what_is_fed_and_drawn_is_what_numpy_does_item_by_item(
    model: StreamingModel, limits: dict[str, Any], stop: int
) -> None:
    decoder, writing = decoder_of(model, stop, **limits), writing_of(model)
    written = decoder.write(writing)
    assert_same(written, written_by_numpy(decoder, writing, **limits))
    if stop != NO_STOP:
        assert (written.tokens == stop).any(axis=0).sum() > 5


@pytest.mark.parametrize("limits", [{}, {"top_k": 3, "top_p": 0.8}])
def test_a_row_depends_neither_on_its_batch_nor_on_its_place(model: StreamingModel, limits: dict[str, Any]) -> None:
    decoder, writing = decoder_of(model, STOP, **limits), writing_of(model, 300)
    whole = decoder.write(writing)
    chance = np.random.default_rng(1)
    for count in (1, 1, 1, 2, 5, 17, 100, 299):
        rows = chance.permutation(300)[:count]
        some = decoder.write(part(writing, rows))
        wanted = Written(whole.tokens[:, rows], whole.packed[rows], whole.outputs[rows], whole.finite[rows])
        assert_same(some, wanted)


def test_rows_of_one_temperature_take_a_smaller_graph_and_draw_the_same(model: StreamingModel) -> None:
    decoder, writing = decoder_of(model), writing_of(model, 300)
    whole = decoder.write(writing)
    assert Drawing.enough_for(writing.temperatures) is Drawing.TEMPERED
    for temperatures, drawing in (((0.0,), Drawing.LIKELIEST), ((0.0, 1.0), Drawing.PLAIN)):
        rows = np.flatnonzero(np.isin(writing.temperatures, temperatures))
        assert Drawing.enough_for(writing.temperatures[rows]) is drawing
        wanted = Written(whole.tokens[:, rows], whole.packed[rows], whole.outputs[rows], whole.finite[rows])
        assert_same(decoder.write(part(writing, rows)), wanted)
    only_fed = replace(writing, draws=np.zeros(300, np.int64))
    assert (decoder.write(only_fed).tokens == NO_TOKEN).all()


def cut(writing: Writing, begin: int, end: int, written: Written) -> Writing:
    """The steps from ``begin`` to ``end`` after those that are written; rows that stopped have none."""
    stopped = (written.tokens == STOP).any(axis=0)
    feeds = np.clip(writing.feeds - begin, 0, end - begin)
    wanted = np.clip(writing.feeds + writing.draws - begin, 0, end - begin)
    return replace(
        writing,
        packed=written.packed,
        outputs=written.outputs,
        feed=writing.feed[begin:end],
        uniforms=writing.uniforms[begin:end],
        feeds=feeds,
        draws=np.where(stopped, 0, wanted - feeds),
    )


@pytest.mark.parametrize("pieces", [[1] * STEPS, [5, 7], [0, 3, 0, 8, 1]])
def test_many_steps_in_one_call_are_many_calls(model: StreamingModel, pieces: list[int]) -> None:
    decoder, writing = decoder_of(model, STOP), writing_of(model)
    whole = decoder.write(writing)
    written = Written(np.zeros((0, ROWS), np.int64), writing.packed, writing.outputs, np.ones(ROWS, np.bool_))
    begin = 0
    for steps in pieces:
        after = decoder.write(cut(writing, begin, begin + steps, written))
        assert after.tokens.shape == (steps, ROWS)
        after.tokens = np.concatenate([written.tokens, after.tokens])
        written, begin = after, begin + steps
    assert_same(written, whole)


def test_steps_after_the_last_row_has_stopped_are_not_taken(model: StreamingModel) -> None:
    writing = replace(
        part(writing_of(model), np.array([0, 1])),
        feed=np.zeros((STEPS, 2), np.int64),
        feeds=np.array([0, 1]),
        draws=np.array([9, 9]),
        outputs=np.eye(V, dtype=np.float32)[[2, 2]],
    )
    written = decoder_of(model, stop=2, top_k=1).write(writing)
    assert written.tokens[:, 0].tolist() == [2] + [NO_TOKEN] * (STEPS - 1)
    second = written.tokens[:, 1].tolist()
    assert second == written_by_numpy(decoder_of(model, stop=2), writing, top_k=1).tokens[:, 1].tolist()
    alone = decoder_of(model, stop=2).write(part(writing, slice(0, 1)))
    assert alone.tokens[:, 0].tolist() == [2] + [NO_TOKEN] * (STEPS - 1)


def test_single_steps_answer_as_written_ones(model: StreamingModel) -> None:
    decoder = decoder_of(model)
    packed = writing_of(model).packed
    items = np.arange(ROWS) % V
    y, after = decoder.step(items, packed)
    x = np.eye(V, dtype=model.dtype)[items]
    for given, wanted in zip((y, after), model.step_packed(x, packed), strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_nothing_that_is_given_is_changed(model: StreamingModel) -> None:
    writing, same = writing_of(model), writing_of(model)
    decoder_of(model).write(writing)
    for name in Writing.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(writing, name), getattr(same, name))


@pytest.mark.parametrize("limits", [{}, {"top_k": 3}, {"top_p": 0.9}])
def test_numbers_that_are_not_finite_are_said_of_their_row_alone(model: StreamingModel, limits: dict[str, Any]) -> None:
    decoder, writing = decoder_of(model, **limits), writing_of(model)
    whole = decoder.write(writing)
    busy = np.flatnonzero(writing.feeds + writing.draws > 0)
    broken, other = busy[0], np.setdiff1d(np.arange(ROWS), busy[:1])
    writing.packed[broken, 0] = np.nan
    written = decoder.write(writing)
    assert np.flatnonzero(~written.finite).tolist() == [broken]
    np.testing.assert_array_equal(written.tokens[:, other], whole.tokens[:, other])
    np.testing.assert_array_equal(written.packed[other], whole.packed[other])


def test_outputs_that_are_not_known_are_needed_only_by_rows_that_draw_first(model: StreamingModel) -> None:
    writing = writing_of(model)
    writing.outputs[:] = np.nan
    written = decoder_of(model, top_p=0.9).write(writing)
    np.testing.assert_array_equal(written.finite, (writing.feeds > 0) | (writing.draws == 0))


def drawn(sampler: Sampler, drawing: Drawing, probabilities: Any, us: Any, temperatures: Any) -> Any:
    return sampler.draw(drawing, probabilities, *sampler.prepared(us, temperatures)).numpy()


def test_uniform_numbers_at_the_edges_draw_items_that_can_be_drawn() -> None:
    p = np.array([[0.0, 0.5, 0.0, 0.5, 0.0], [0.3, 0.3, 0.3, 0.05, 0.05], [0.1, 0.2, 0.3, 0.4, 0.0]], np.float32)
    given = tf.constant(np.repeat(p, 4, axis=0))
    us = tf.constant(np.tile([0.0, 0.49999999, 0.5, 1 - 2.0**-53], 3))
    for temperature in (1.0, 0.3, 1e-7, 1e-300, 1e7):
        temperatures = tf.fill([12], tf.constant(temperature, tf.float64))
        items = drawn(Sampler(5), Drawing.TEMPERED, given, us, temperatures)
        assert (np.repeat(p, 4, axis=0)[range(12), items] > 0).all()
        assert items[:4].tolist() == [1, 1, 3, 3]
    near_zero = tf.fill([12], tf.constant(1e-320, tf.float64))
    assert drawn(Sampler(5), Drawing.TEMPERED, given, us, near_zero).tolist() == [1] * 4 + [0] * 4 + [3] * 4
    first = drawn(Sampler(5, top_k=2), Drawing.PLAIN, given, us, tf.ones(12, tf.float64))
    assert first[4:8].tolist() == [0, 0, 1, 1]  # of three equal ones the first two


@pytest.mark.parametrize("drawing", [Drawing.PLAIN, Drawing.TEMPERED])
def test_items_of_a_large_vocabulary_are_the_same_by_its_head_and_by_sorting_it(drawing: Drawing) -> None:
    """Rows of which the head reaches top_p, rows of which it can't, and rows of which it might and does not."""
    units, rows, rng = LARGE_ITEMS + 5, 60, np.random.default_rng(6)
    p = np.concatenate([rng.dirichlet(np.full(units, alpha), rows // 3) for alpha in (0.01, 0.3, 50)])
    p[0], p[1], p[2] = 0, 1 / units, np.nan  # a row that isn't known is drawn of, too
    p = p.astype(np.float32)
    us, temperatures = rng.random(rows), rng.choice([0.0, 1.0] if drawing is Drawing.PLAIN else TEMPERATURES, rows)
    for top_p in (0.5, 0.9, 1.0):
        sampler = Sampler(units, top_p=top_p)
        whole = drawn(sampler, drawing, *map(tf.constant, (p, us, temperatures)))
        wanted = [drawn_by_numpy(*row, top_p=top_p) for row in zip(p[3:], us[3:], temperatures[3:], strict=True)]
        assert whole[3:].tolist() == wanted
        for some in (slice(0, 1), slice(5, 6), slice(45, 46), slice(18, 44), rng.permutation(rows)):
            given = map(tf.constant, (p[some], us[some], temperatures[some]))
            assert drawn(sampler, drawing, *given).tolist() == whole[some].tolist()
    reached = np.sort(p[3:])[:, ::-1][:, :HEAD_ITEMS].sum(axis=1)
    assert (reached > 0.9).sum() > 10 < (reached < 0.5).sum()


@pytest.mark.parametrize("units", [5, LARGE_ITEMS - 1, LARGE_ITEMS, LARGE_ITEMS + 5])
@pytest.mark.parametrize("top_p", [None, 0.7])
def test_a_top_k_of_all_items_and_more_is_none(units: int, top_p: float | None) -> None:
    rows, rng = 40, np.random.default_rng(7)
    p = rng.dirichlet(np.full(units, 0.1), rows).astype(np.float32)
    given = (*map(tf.constant, (p, rng.random(rows), rng.choice(TEMPERATURES, rows))),)
    wanted = drawn(Sampler(units, top_p=top_p), Drawing.TEMPERED, *given)
    for top_k in (units, units + 1, 9 * units):
        assert drawn(Sampler(units, top_k, top_p), Drawing.TEMPERED, *given).tolist() == wanted.tolist()
    fewer = Sampler(units, units - 1, top_p)
    assert (drawn(fewer, Drawing.LIKELIEST, *given) == p.argmax(axis=1)).all()
    assert (np.take_along_axis(p, drawn(fewer, Drawing.TEMPERED, *given)[:, np.newaxis], 1) > 0).all()


def test_a_row_of_a_large_vocabulary_depends_on_no_other() -> None:
    keras.utils.set_random_seed(4)
    layers = L.Embedding(LARGE_ITEMS, 5), L.GRU(8), L.Dense(LARGE_ITEMS, "softmax", kernel_initializer="normal")
    streaming = StreamingModel(keras.Sequential([keras.Input((None,)), *layers]))
    for top_p in (None, 0.9):
        decoder = PackedDecoder(streaming._packed, Sampler(LARGE_ITEMS, top_p=top_p), one_hot=False)
        assert decoder.settle(10_000)
        writing = decoder._trial(90, 1)
        whole = decoder.write(writing)
        for rows in (np.array([7]), np.array([80, 3]), np.random.default_rng(1).permutation(90)):
            wanted = Written(whole.tokens[:, rows], whole.packed[rows], whole.outputs[rows], whole.finite[rows])
            assert_same(decoder.write(part(writing, rows)), wanted)


def test_fewer_rows_of_a_large_vocabulary_are_tried() -> None:
    keras.utils.set_random_seed(4)
    units = 30_000
    layers = L.Embedding(units, 1), L.SimpleRNN(1), L.Dense(units, "softmax")
    streaming = StreamingModel(keras.Sequential([keras.Input((None,)), *layers]))
    decoder = PackedDecoder(streaming._packed, Sampler(units), one_hot=False)
    tried: list[int] = []
    real = decoder.write

    def write(writing: Writing) -> Written:
        tried.append(len(writing.feeds))
        return real(writing)

    decoder.write = write  # type: ignore[method-assign]
    assert decoder.settle(4_096)
    assert max(tried) == LEAST_DRAWING_BLOCKS * streaming._packed.multiple_rows


def test_frequencies_are_the_probabilities() -> None:
    p = np.array([0.05, 0.5, 0.0, 0.25, 0.2])
    given = tf.constant(np.tile(p, (20_000, 1)).astype(np.float32))
    us = tf.constant(np.random.default_rng(2).random(20_000))
    for temperature in (1.0, 0.5, 2.0):
        temperatures = tf.fill([20_000], tf.constant(temperature, tf.float64))
        items = drawn(Sampler(5), Drawing.TEMPERED, given, us, temperatures)
        wanted = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        np.testing.assert_allclose(np.bincount(items, minlength=5) / 20_000, wanted, atol=0.015)


def test_softmax_has_the_same_bits_in_every_batch() -> None:
    logits = np.random.default_rng(4).normal(size=(64, V)).astype(np.float32) * 5
    whole = softmax(tf.constant(logits)).numpy()
    exps = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(whole, exps / exps.sum(axis=1, keepdims=True), rtol=1e-6)
    for rows in (16, 32, 48):
        np.testing.assert_array_equal(softmax(tf.constant(logits[:rows])).numpy(), whole[:rows])
    bad = softmax(tf.constant([[0.0, np.nan], [0.0, np.inf], [0.0, -np.inf]], tf.float32)).numpy()
    assert np.isnan(bad[:2]).all()
    assert bad[2].tolist() == [1, 0]


def test_settling_builds_every_graph_and_finds_rows_that_depend_on_others(model: StreamingModel) -> None:
    decoder = decoder_of(model)
    assert decoder.settle(100)
    assert set(decoder._graphs) == {None, *Drawing}
    real = decoder._graphs[Drawing.PLAIN]

    def dependent(packed: Any, *given: Any) -> Any:
        """A graph whose rows depend a little on how many there are."""
        tokens, after, *rest = real(packed, *given)
        return tokens, after + 1e-7 * len(packed), *rest

    decoder._graphs[Drawing.PLAIN] = dependent
    assert not decoder.settle(100)


def test_a_model_of_float64_stays_so() -> None:
    layers = L.GRU(5, dtype="float64"), L.Dense(V, activation="softmax", dtype="float64")
    model = StreamingModel(keras.Sequential([keras.Input((None, V), dtype="float64"), *layers]))
    decoder, writing = decoder_of(model), writing_of(model)
    written = decoder.write(writing)
    assert written.packed.dtype == written.outputs.dtype == np.float64
    assert_same(written, written_by_numpy(decoder, writing))


@pytest.mark.parametrize(
    "limits",
    [
        *({"top_k": value} for value in (0, 1.5, True, "5")),
        *({"top_p": value} for value in (0.0, 1.01, float("nan"), "0.5", True)),
    ],
)
def test_limits_that_leave_nothing_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"top_[kp] is .*: a (whole )?number.*, or None for all items"):
        Sampler(V, **limits)

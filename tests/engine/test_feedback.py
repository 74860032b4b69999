"""Records in, texts out: what is read, worked on and told, with a model whose states anyone can compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.engine.toy_texts import Row, ToyDecoder, events, generation, prompt
from worker.engine.feedback import FeedbackEngine
from worker.records.random_numbers import stream_key, uniforms


def greedy(model: ToyDecoder, items: list[int], length: int, h: float = 0.0) -> tuple[list[int], float]:
    """What the model writes, item by item, and its state after."""
    packed, outputs = np.array([[h]]), None
    text: list[int] = []
    for item in items:
        outputs, packed = model.step(np.array([item]), packed)
    for _ in range(length):
        token = int((model.probabilities(packed) if outputs is None else outputs).argmax())
        text.append(token)
        outputs, packed = model.step(np.array([token]), packed)
        if token == model.stop:
            break
    return text, float(packed[0, 0])


def told(engine: FeedbackEngine, most: int = 1000) -> list[tuple[Any, ...]]:
    """(stream, item, tokens, finish, steps, reset, final) of all outputs until nothing is left to do."""
    found: list[tuple[Any, ...]] = []
    for _ in range(1000):
        if not engine.busy:
            return found
        for answered, texts in engine.work(most):
            columns = texts.items, texts.tokens, texts.finishes, texts.steps, texts.resets, texts.finals
            for event, *rest in zip(texts.events, *columns, strict=True):
                found.append(
                    (answered.streams[event], *(each.item() if hasattr(each, "item") else each for each in rest))
                )
    raise AssertionError("it never ends")


def test_a_record_is_fed_and_its_text_is_drawn() -> None:
    engine = generation()
    reading = engine.read([events([Row("a", prompt([1, 2], 5)), Row("b", prompt([3], 4))])])
    assert [len(each) for each in reading.accepted] == [2]
    assert not reading.left_over
    a, b = greedy(ToyDecoder(), [1, 2], 5)[0], greedy(ToyDecoder(), [3], 4)[0]
    assert sorted(told(engine)) == [("a", -1, a, 1, 7, 1, False), ("b", -1, b, 1, 5, 1, False)]


def test_the_next_record_goes_on_from_there() -> None:
    engine = generation()
    engine.read([events([Row("a", prompt([1, 2], 5)), Row("a", prompt([], 4))])])
    whole = greedy(ToyDecoder(), [1, 2], 9)[0]
    assert [each[2] for each in told(engine)] == [whole[:5], whole[5:]]


def test_every_item_is_an_output_and_the_last_says_how_the_text_ends() -> None:
    engine = generation(mode="every_item")
    engine.read([events([Row("a", prompt([1, 2], 3), end=True)])])
    text = greedy(ToyDecoder(), [1, 2], 3)[0]
    ends = [(None, False), (None, False), (1, True)]
    wanted = [("a", k, [text[k]], ends[k][0], 3 + k, 1, ends[k][1]) for k in range(3)]
    assert told(engine, most=1) == wanted


def test_a_stop_item_ends_a_text_and_is_no_part_of_it() -> None:
    stop = greedy(ToyDecoder(), [1, 2], 9)[0][3]
    for mode, wanted in (("every_event", [stop]), ("every_item", [])):
        engine = generation(ToyDecoder(stop=stop), mode=mode)
        engine.read([events([Row("a", prompt([1, 2], 9))])])
        text = greedy(ToyDecoder(stop=stop), [1, 2], 9)[0]
        last = told(engine)[-1]
        assert text[-1] == stop
        assert last[2:5] == (text[:-1] if wanted else [], 2, 2 + len(text))


def test_a_sequence_is_told_where_it_ends() -> None:
    engine = generation(mode="sequence_end")
    engine.read([events([Row("a", prompt([1, 2], 3)), Row("a", prompt([3], 2)), Row("a", prompt([4], 2), end=True)])])
    first, h = greedy(ToyDecoder(), [1, 2], 3)
    second, h = greedy(ToyDecoder(), [3], 2, h)
    third, h = greedy(ToyDecoder(), [4], 2, h)
    assert told(engine) == [("a", -1, first + second + third, 1, 11, 0, True)]


def test_most_outputs_bounds_a_call_and_a_record_is_unfinished_until_all_are_given_out() -> None:
    engine = generation(mode="every_item")
    engine.read([events([Row("a", prompt([1], 5)), Row("b", prompt([2], 5))])])
    streams = engine.table.partitions[events([]).batch.partition]
    given: list[int] = []
    while engine.busy:
        given.append(sum(len(texts.events) for _, texts in engine.work(2)))
        assert sum(each.sent for each in streams.unfinished.values()) + 5 * (2 - len(streams.unfinished)) == sum(given)
    assert given == [2, 2, 2, 2, 2]
    assert not streams.unfinished


def test_without_text_a_stream_at_zero_has_nothing_to_go_on_from() -> None:
    engine = generation()
    engine.read([events([Row("a", prompt([], 5)), Row("b", prompt([1], 0)), Row("b", prompt([], 2))])])
    ((answered, texts),) = engine.work(100)
    assert [(each.record, each.error) for each in texts.refusals] == [
        (answered.streams.index("a"), "nothing_to_continue")
    ]
    assert [answered.streams[event] for event in texts.events] == ["b", "b"]
    assert texts.tokens == [[], greedy(ToyDecoder(), [1], 2)[0]]


def test_what_the_decoder_refused_is_accepted() -> None:
    engine = generation()
    reading = engine.read([events([None, Row("a", prompt([1])), None]), events([None], 3)])
    assert [each.batch.next_offset for each in reading.accepted] == [3, 4]
    assert engine.table.partitions[events([]).batch.partition].read_to == 4


def test_random_numbers_go_on_from_record_to_record_and_boundaries_do_not_set_them_back() -> None:
    engine = generation()
    rows = [Row("a", prompt([1], 3, 1.0)), Row("a", prompt([], 4, 1.0)), Row("a", prompt([1], 5, 1.0), start=True)]
    engine.read([events(list(rows))])
    found = [each[2] for each in told(engine)]
    numbers = iter(uniforms(stream_key(7, b"a")[np.newaxis], np.array([0]), 12)[:, 0].tolist())
    model, wanted = ToyDecoder(), []
    packed = np.zeros((1, 1))
    for row in rows:
        assert row.prompt is not None
        packed, text = np.zeros((1, 1)) if row.start else packed, []
        for item in row.prompt.items.tolist():
            _, packed = model.step(np.array([item]), packed)
        for _ in range(row.prompt.length):
            token = model.draw(model.probabilities(packed), np.array([next(numbers)]))
            text.append(int(token[0]))
            _, packed = model.step(token, packed)
        wanted.append(text)
    assert found == wanted
    assert engine.table.drawn[engine.table.partitions[events([]).batch.partition].rows["a"]] == 12
    assert engine.items_drawn == 12
    assert engine.items_fed == 2

"""Models of several inputs and outputs: each is told by name, and two of them can't be swapped in silence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_line import Command, written
from tests.models import L, shaken
from worker import StreamingModel
from worker.assembly.feature_order import FeatureFields, in_order
from worker.assembly.input_description import input_description
from worker.assembly.model import load_scoring
from worker.assembly.pipeline import build_scoring
from worker.commands.replay.replaying import read_records, replay
from worker.commands.replay.writing import Writer
from worker.config import load_config
from worker.errors import ConfigError
from worker.model.backend import keras

pytestmark = pytest.mark.zoo

ROWS, STEPS = 3, 5
BY_INPUT = {"readings": ["a", "b", "c", "d"], "device": "kind"}


def by_name() -> Any:
    """Inputs and outputs in mappings, whose order is Keras' own: device before readings, rul before state."""
    device, readings = keras.Input((6,), name="device"), keras.Input((None, 4), name="readings")
    start = L.Dense(5)(device)
    h = L.LSTM(5, return_sequences=True, name="lstm")(readings, initial_state=[start, start])
    outputs = {"state": L.Dense(3, name="softly")(h[:, -1]), "rul": L.Dense(1)(h[:, -1])}
    return shaken(keras.Model({"readings": readings, "device": device}, outputs))


def in_a_list() -> Any:
    """Ids, one number and readings; two outputs of one layer."""
    words, kind = keras.Input((None,), dtype="int32", name="words"), keras.Input((1,), name="kind")
    readings = keras.Input((None, 2), name="readings")
    x = L.Concatenate()([L.Embedding(7, 3)(words), readings])
    start = L.Dense(4)(kind)
    y, h = L.GRU(4, return_state=True, return_sequences=True, name="gru")(x, initial_state=start)
    return shaken(keras.Model([words, kind, readings], [y, h]))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, StreamingModel, Path]:
    trained, folder = by_name(), tmp_path_factory.mktemp("named")
    trained.save(folder / "m.keras")
    return trained, StreamingModel(trained), folder


def given(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(STEPS, ROWS, 4)).astype("float32"), rng.normal(size=(ROWS, 6)).astype("float32")


def test_inputs_by_name_are_what_the_trained_model_is_given(named: tuple[Any, StreamingModel, Path]) -> None:
    trained, model, _ = named
    readings, device = given()
    ys, after = model.scan({"readings": readings, "device": device}, model.zero_states(ROWS))
    wanted = trained({"readings": readings.swapaxes(0, 1), "device": device})
    state, rul = (part.columns for part in (model.outputs[1], model.outputs[0]))
    np.testing.assert_allclose(ys[-1][:, state], wanted["state"], atol=1e-5)
    np.testing.assert_allclose(ys[-1][:, rul], wanted["rul"], atol=1e-5)
    states = model.zero_states(ROWS)
    for x in readings:
        y, states = model.step({"device": device, "readings": x}, states)
    np.testing.assert_array_equal(y, ys[-1])
    whole = np.concatenate([np.broadcast_to(device, (STEPS, ROWS, 6)), readings], axis=2)
    np.testing.assert_array_equal(model.scan(whole, model.zero_states(ROWS))[0], ys)
    np.testing.assert_array_equal(model.step(whole[0], model.zero_states(ROWS))[0], ys[0])
    for one, two in zip(after, states, strict=True):
        np.testing.assert_array_equal(one, two)
    assert model.summary().splitlines()[:2] == [
        "inputs: device 0-5 constant per stream, readings 6-9 per event", "outputs: rul 0, state 1-3"
    ]  # fmt: skip


def test_nested_lists_that_may_be_inputs_or_rows_are_refused() -> None:
    a, b = keras.Input((None, 1), name="a"), keras.Input((None, 1), name="b")
    model = StreamingModel(shaken(keras.Model([a, b], L.GRU(2)(L.Concatenate()([a, b])))))
    rows = [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match=r"x: nested lists may be its inputs or its rows; give \{'a': "):
        model.step(rows, model.zero_states(2))
    wanted, _ = model.step(np.array(rows), model.zero_states(2))
    ways: list[dict[str, Any] | list[Any]] = [
        {"a": [1.0, 3.0], "b": [2.0, 4.0]},
        [np.array([1.0, 3.0]), np.array([2.0, 4.0])],
    ]
    for way in ways:
        np.testing.assert_array_equal(model.step(way, model.zero_states(2))[0], wanted)
    with pytest.raises(ValueError, match="nested lists"):
        model.scan([rows, rows], model.zero_states(2))


def test_inputs_in_a_list_are_what_the_trained_model_is_given() -> None:
    trained = in_a_list()
    model = StreamingModel(trained)
    rng = np.random.default_rng(1)
    words, readings = rng.integers(0, 7, (STEPS, ROWS)), rng.normal(size=(STEPS, ROWS, 2)).astype("float32")
    kind = rng.normal(size=(ROWS, 1)).astype("float32")
    wanted, last = trained([words.swapaxes(0, 1), kind, readings.swapaxes(0, 1)])
    assert [part.name for part in model.outputs] == ["gru", "gru.2"]
    for constant in (kind, kind[:, 0], np.broadcast_to(kind, (STEPS, ROWS, 1))):
        ys, _ = model.scan([words, constant, readings], model.zero_states(ROWS))
        np.testing.assert_allclose(ys[..., model.outputs[0].columns].swapaxes(0, 1), wanted, atol=1e-5)
        np.testing.assert_allclose(ys[-1][:, model.outputs[1].columns], last, atol=1e-5)
    y, _ = model.step((words[0], kind, readings[0]), model.zero_states(ROWS))
    np.testing.assert_array_equal(y, ys[0])
    with pytest.raises(ValueError, match="its ids of input 'words' must be whole numbers from 0 to 6"):
        model.step([words[0] + 7, kind, readings[0]], model.zero_states(ROWS))
    with pytest.raises(ValueError, match=r"a list of 2 for the 3 inputs of this model; give {'words': "):
        model.step([kind, readings[0]], model.zero_states(ROWS))


WAYS = r"give {'device': \(batch, 6\), 'readings': \(batch, 4\)}, or one array \(batch, 10\) with device in 0-5, "


def test_other_inputs_are_told_by_name(named: tuple[Any, StreamingModel, Path]) -> None:
    model = named[1]
    readings, device = given()
    for x, wanted in (
        ([device, readings[0]], f"takes its inputs by name, not as a list; {WAYS}"),
        ({"readings": readings[0], "devic": device}, f"no input 'devic'; {WAYS}"),
        ({"readings": readings[0]}, f"it lacks the input 'device'; {WAYS}"),
        ({"readings": device, "device": readings[0]}, r"input 'device': wanted \(batch, 6\), given \(3, 4\)"),
        (
            {"readings": readings[0], "device": device[:2]},
            r"input 'device': wanted \(batch, 6\), given \(2, 6\), and 'readings' has batch 3",
        ),
        (readings[0], rf"wanted \(batch, 10\), given \(3, 4\); {WAYS}"),
        ({"readings": readings[0, 0], "device": device[0]}, r"input '\w+': wanted \(batch, "),
    ):
        with pytest.raises(ValueError, match=wanted):
            model.step(x, model.zero_states(ROWS))
    with pytest.raises(ValueError, match=r"input 'device': wanted \(time, batch, 6\), given \(2, 6\)"):
        model.scan({"readings": readings, "device": device[:2]}, model.zero_states(ROWS))


def test_check_and_export_tell_who_gets_which_number(named: tuple[Any, StreamingModel, Path], command: Command) -> None:
    folder = named[2]
    text = command("check", "-c", written(folder, "m.keras", input__features=BY_INPUT)).out
    for line in (
        "inputs      name      columns  when                 from input.features",
        "            device    0-5      constant per stream  kind[0-5]",
        "            readings  6-9      per event            a, b, c, d",
        "outputs     name   numbers",
        "            state  1-3",
    ):
        assert line in text.splitlines()
    assert "warning" not in text
    listed = [*"efghij", *"abcd"]
    report = json.loads(command("check", "-c", written(folder, "m.keras", input__features=listed), "--json").out)
    assert [(part["name"], part["first"], part["last"], part["constant"]) for part in report["inputs"]] == [
        ("device", 0, 5, True), ("readings", 6, 9, False)
    ]  # fmt: skip
    assert [(part["name"], part["first"], part["last"], part["width"]) for part in report["outputs"]] == [
        ("rul", 0, 0, 1), ("state", 1, 3, 3)
    ]  # fmt: skip
    assert "features: {device: [e, f, g, h, i, j], readings: [a, b, c, d]}" in report["warnings"][0]
    file = written(folder, "m.keras", input__features={"readings": [*"abcd"], "device": [*"efghij"]})
    followed = json.loads(command("check", "-c", file, "--json").out)
    assert followed["inputs"] == report["inputs"]
    assert not any("input.features" in warning for warning in followed["warnings"])
    exported = command("export", "-c", file, "--output", str(folder / "step.keras")).out
    assert "x           x[..., 0:6]   device    constant per stream" in exported.splitlines()
    assert "            y[..., 1:4]  state" in exported.splitlines()


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        (
            [*"abcde"],
            ["input.features: names 5 fields, but {m} takes 10 numbers (its inputs: device 6 numbers"],
        ),
        (
            {"readings": [*"abcd"], "devise": "x"},
            [
                "input.features.devise: {m} has no input of this name (its inputs: ",
                "readings 4 numbers); did you mean device?",
                "input.features.device: is missing, an input of {m} that takes 6 numbers",
            ],
        ),
        (
            {"readings": [*"abc"], "device": "x"},
            ["input.features.readings: names 3 fields, but this input of {m} takes 4 numbers"],
        ),
        (
            {"readings": [*"abcd"], "device": "a"},
            ["input.features.readings: 'a' is the field with the vector of input device"],
        ),
        ({}, ["input.features: should not be empty"]),
    ],
    ids=["list", "names", "count", "twice", "empty"],
)
def test_fields_that_do_not_fit_are_told_by_input(
    named: tuple[Any, StreamingModel, Path], command: Command, features: Any, wanted: list[str]
) -> None:
    ended = command("check", "-c", written(named[2], "m.keras", input__features=features))
    assert ended.status == 2
    for line in wanted:
        assert line.format(m=named[2] / "m.keras") in ended.err


def test_records_by_input_reach_the_model_as_it_means_them(named: tuple[Any, StreamingModel, Path]) -> None:
    trained, model, folder = named
    readings, device = given(2)
    config = load_config(Path(written(folder, "m.keras", input__features=BY_INPUT)), {})
    values = [{**dict(zip("abcd", x[0].tolist(), strict=True)), "kind": device[0].tolist()} for x in readings]
    spoilt: list[dict[str, Any]] = [
        {**values[0], "kind": device[0, :5].tolist()}, {**values[0], "kind": 3}, {**values[0], "b": None},
        {**values[0], "kind": [[1.0] * 6]}, {**values[0], "kind": [1.0] * 5 + [None]},
    ]  # fmt: skip
    lines = "\n".join(json.dumps({"key": "one", "value": value}) for value in [*spoilt, *values])
    out = io.BytesIO()
    records = read_records(io.BytesIO(lines.encode()), "in", "readings", "json")
    replay(build_scoring(config, load_scoring(config)), records, 20, Writer(out, "probabilities", "dead", "json"))
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    dead = [dict(line["headers"]) for line in answers if line["topic"] == "dead"]
    reasons = [next(text for name, text in each.items() if name.endswith("reason")) for each in dead]
    assert reasons == [
        "field 'kind' (input.features) has 5 numbers; its input takes 6",
        "field 'kind' (input.features) is a number, not a list of numbers",
        "field 'b' (input.features) is null, not a number",
        "field 'kind' (input.features) holds a list in place of a number",
        "field 'kind' (input.features) holds null in place of a number",
    ]
    wanted = trained({"readings": readings[:, :1].swapaxes(0, 1), "device": device[:1]})
    last = np.array(answers[-1]["value"]["probabilities"])
    np.testing.assert_allclose(last[model.outputs[1].columns], wanted["state"][0], atol=1e-5)


def test_a_list_and_a_mapping_that_say_the_same_are_the_same_input(tmp_path: Path) -> None:
    """To follow the advice of ``worker check`` must not make checkpoints those of another input."""
    widths = {"device": 2, "readings": 1}

    def described(features: Any) -> tuple[FeatureFields, str]:
        config = load_config(Path(written(tmp_path, input__features=features)), {})
        assert config.input.features is not None
        return in_order(config.input.features, widths, "m"), input_description(config, [*widths])

    assert described({"readings": ["c"], "device": ["a", "b"]}) == described(["a", "b", "c"])
    assert described({"readings": "c", "device": ["a", "b"]}) == described(["a", "b", "c"])
    assert described({"readings": ["a"], "device": ["b", "c"]}) != described(["a", "b", "c"])
    assert in_order({"only": "x"}, {"only": 7}, "m") == FeatureFields("x")
    for fields in (["a", "c"], ["a", "value:c"]):
        with pytest.raises(ConfigError, match=f"device: '{fields[1]}' is the field with the vector of input readings"):
            in_order({"readings": "c", "device": tuple(fields)}, {"device": 2, "readings": 3}, "m")
    with pytest.raises(ConfigError, match=r"input\.features\.other: m has no input of this name"):
        described({"other": "x", "readings": "c", "device": ["a", "b"]})


def test_a_raw_vector_has_no_fields_for_inputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32 has no fields, only numbers in the model's order"):
        load_config(Path(written(tmp_path, input__features={"x": ["a"]}, input__format="float32")), {})


def test_whole_numbers_that_the_state_would_round_are_refused() -> None:
    """Ids of devices, say: they travel as float32, and 100,000,001 would be 100,000,000."""
    layers = [keras.layers.Hashing(50), keras.layers.Embedding(50, 4), keras.layers.GRU(3)]
    model = StreamingModel(keras.Sequential([keras.Input((None,), dtype="int64"), *layers]))
    assert model.wholes == ((slice(0, 1), -(2**24), 2**24),)
    model.step(np.array([[2**24], [-7]]), model.zero_states(2))
    for wrong in (2**24 + 1, 3.5):
        with pytest.raises(ValueError, match=r"x: this model takes whole numbers from -16,777,216 to 16,777,216"):
            model.step(np.array([[wrong]]), model.zero_states(1))
        with pytest.raises(ValueError, match="this model takes whole numbers"):
            model.scan(np.array([[[wrong]]]), model.zero_states(1))

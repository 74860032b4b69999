"""Tasks that generate: which keys they have, what contradicts them, and what their states are fed with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_config import load, refusal
from worker.assembly.input_description import input_description, rules_description
from worker.checkpoints.input_identity import changes
from worker.config.checks import contradictions
from worker.config.sections import Config
from worker.config.tasks import holds_vectors

PLACES: dict[str, Any] = {"input": {"topic": "asked"}, "output": {"topic": "said"}}


def tree(task: str, **keys: Any) -> dict[str, Any]:
    """A complete configuration of the task, with dotted keys written with two underscores; None leaves a key out."""
    model: dict[str, Any] = {"path": "m.keras", "task": task}
    model |= {"vocabulary": ["a", "b", "5"]} if task == "generate" else {"start": 1}
    found: dict[str, Any] = {**json.loads(json.dumps(PLACES)), "model": model}
    if task == "seq2seq":
        found["sequence"] = {"end": "end"}
    for path, value in keys.items():
        section, name = path.split("__")
        found.setdefault(section, {})[name] = value
    return found


def test_defaults(tmp_path: Path) -> None:
    write = load(tmp_path, tree("generate")).model
    assert (write.max_length, write.temperature, write.top_k, write.top_p, write.seed) == (400, 1.0, None, None, 0)
    assert (write.unknown, write.stop, write.vocabulary) == ("refuse", None, ("a", "b", "5"))
    translate = load(tmp_path, tree("seq2seq")).model
    assert (translate.temperature, translate.beams, translate.start, translate.stop) == (0.0, 1, 1, None)


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("generate", {"output__emit": "every_item"}),
        ("generate", {"output__emit": "sequence_end", "sequence__length": 3}),
        ("generate", {"input__format": "msgpack", "model__stop": "\n", "model__unknown": "skip", "model__seed": -7}),
        ("generate", {"model__temperature": 0, "model__top_k": 5, "model__top_p": 0.9}),  # records may say another one
        ("generate", {"model__vocabulary": "items.txt", "model__stop": 5, "sequence__id": "book", "input__time": "at"}),
        ("seq2seq", {"model__path": {"encoder": "e.keras", "decoder": "d.keras"}, "output__emit": "every_item"}),
        ("seq2seq", {"model__beams": 4, "model__target_vocabulary": ["a", "b"], "model__start": "a"}),
        ("seq2seq", {"model__temperature": 0.5, "model__top_k": 3, "model__top_p": 1, "output__emit": "sequence_end"}),
        ("seq2seq", {"input__features": ["ax", "ay"], "sequence__end": "text"}),
        ("seq2seq", {"model__source_vocabulary": ["a"], "model__unknown": "a", "sequence__length": 1}),
        ("seq2seq", {"input__format": "float32", "sequence__end": None, "sequence__length": 8}),
    ],
)
def test_what_goes_together(tmp_path: Path, task: str, keys: dict[str, Any]) -> None:
    load(tmp_path, tree(task, **keys))


@pytest.mark.parametrize(
    ("task", "keys", "line"),
    [
        ("generate", {"model__vocabulary": None}, "model.vocabulary: is required for task generate"),
        ("generate", {"model__vocabulary": []}, "model.vocabulary: should not be empty"),
        ("generate", {"model__vocabulary": ["a", "b", "a"]}, "model.vocabulary: 'a' is given twice"),
        ("generate", {"model__vocabulary": ["a", 5]}, "model.vocabulary.1: should be text, not 5 (put it in quotes)"),
        ("generate", {"input__features": ["ax"]}, "input.features: is not for task generate, whose records hold text"),
        ("generate", {"input__format": "float32"}, "input.format: float32 holds no text; task generate needs json or"),
        ("generate", {"output__emit": "change"}, "output.emit: change compares probabilities; task generate has none"),
        ("generate", {"output__emit": "sequence_end"}, "output.emit: sequence_end needs sequence.end or sequence.leng"),
        ("generate", {"output__emit_delta": 0.1}, "output.emit_delta: is for task score, but model.task is generate"),
        ("generate", {"model__labels": ["a"]}, "model.labels: is for task score, but model.task is generate"),
        ("generate", {"model__beams": 2}, "model.beams: is for task seq2seq, but model.task is generate"),
        ("generate", {"model__start": "a"}, "model.start: is for task seq2seq, but model.task is generate"),
        ("generate", {"model__target_vocabulary": ["a"]}, "model.target_vocabulary: is for task seq2seq, but"),
        ("generate", {"model__path": {"encoder": "e", "decoder": "d"}}, "model.path: encoder and decoder are for task"),
        ("generate", {"model__temperature": -0.5}, "model.temperature: should be at least 0.0, not -0.5"),
        ("generate", {"model__temperature": "hot"}, "model.temperature: should be a number"),
        ("generate", {"model__top_k": 0}, "model.top_k: should be at least 1, not 0"),
        ("generate", {"model__top_p": 0}, "model.top_p: should be above 0.0, not 0"),
        ("generate", {"model__top_p": 1.5}, "model.top_p: should be at most 1.0, not 1.5"),
        ("generate", {"model__max_length": 0}, "model.max_length: should be at least 1, not 0"),
        ("generate", {"model__max_length": 100_001}, "model.max_length: should be at most 100000, not 100001"),
        ("generate", {"model__stop": -1}, "model.stop: should be at least 0, not -1"),
        ("generate", {"model__stop": 1.5}, "model.stop: should be text or a whole number, not 1.5 (put it in quotes)"),
        ("generate", {"model__unknown": 5}, "model.unknown: should be text, not 5 (put it in quotes)"),
        ("generate", {"sequence__end": "length"}, "sequence.end: 'length' is what task generate reads from a record;"),
        ("generate", {"sequence__id": "value:text"}, "sequence.id: 'value:text' is what task generate reads from a"),
        ("generate", {"input__stream": "tokens"}, "input.stream: 'tokens' is what task generate reads from a record;"),
        ("seq2seq", {"model__start": None}, "model.start: is required for task seq2seq (the item or id that decoding"),
        ("seq2seq", {"sequence__end": None}, "sequence.end: task seq2seq needs sequence.end or sequence.length to"),
        ("seq2seq", {"model__vocabulary": ["a"]}, "model.vocabulary: is for task generate, but model.task is seq2seq"),
        ("seq2seq", {"model__beams": 2, "model__temperature": 0.1}, "model.beams: 2 candidates take the most likely"),
        ("seq2seq", {"model__beams": 2, "output__emit": "every_item"}, "output.emit: every_item can't follow model.be"),
        ("seq2seq", {"model__beams": 65}, "model.beams: should be at most 64, not 65"),
        ("seq2seq", {"model__top_k": 2}, "model.top_k: is for drawing, but model.temperature is 0, which takes the"),
        ("seq2seq", {"model__unknown": "skip"}, "model.unknown: is for text, which needs model.source_vocabulary"),
        (
            "seq2seq",
            {"input__features": "x", "model__source_vocabulary": ["a"]},
            "model.source_vocabulary: is for text, but records hold vectors (input.features); leave out one of the two",
        ),
        (
            "seq2seq",
            {
                "input__format": "float32", "sequence__end": None, "sequence__length": 8,
                "model__source_vocabulary": ["a"],
            },
            "model.source_vocabulary: is for text, but records hold vectors (input.format float32); leave out one of",
        ),
        ("seq2seq", {"sequence__start": "tokens"}, "sequence.start: 'tokens' is what task seq2seq reads from a record"),
        (
            "seq2seq",
            {"model__path": {"encoder": "e", "decoder": "d"}, "model__sha256": "0" * 64},
            "model.sha256: is of one file, and model.path names two (leave it out; outputs name the digest of both)",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_a_task(tmp_path: Path, task: str, keys: dict[str, Any], line: str) -> None:
    (found,) = refusal(tmp_path, tree(task, **keys))
    assert found.startswith(line)


@pytest.mark.parametrize("task", ["generate", "seq2seq"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("window", 128), ("window_fill", "zeros"), ("memory", 64), ("every", 2), ("expect", "ranges.json")],
)
def test_windows_and_ranges_are_for_task_score(task: str, key: str, value: Any) -> None:
    """Also when they are available."""
    config = Config.model_validate(tree(task, **{f"model__{key}": value}))
    assert contradictions(config) == [f"model.{key}: is for task score, but model.task is {task}"]
    alert = Config.model_validate(tree(task, output__emit="alert", output__score="forecast"))
    assert [line.split(":")[0] for line in contradictions(alert)] == ["output.score", "output.emit"]


def test_whether_records_hold_vectors(tmp_path: Path) -> None:
    assert not holds_vectors(load(tmp_path, tree("generate")))
    assert not holds_vectors(load(tmp_path, tree("seq2seq")))
    assert holds_vectors(load(tmp_path, tree("seq2seq", input__features="x")))


def described(task: str, **keys: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(input_description(Config.model_validate(tree(task, **keys))))
    return found


def test_states_are_fed_what_the_vocabulary_makes_of_a_text(tmp_path: Path) -> None:
    ab = described("generate", model__vocabulary=["a", "b"])
    assert ab == described("generate", model__vocabulary=["a", "b"])
    assert ab != described("generate", model__vocabulary=["b", "a"])
    assert ab != described("generate", model__vocabulary=["a", "b"], model__unknown="skip")
    file = tmp_path / "items.txt"
    file.write_text("a\nb\n")
    assert described("generate", model__vocabulary=file) == ab
    file.write_text("b\na\n")
    changed = described("generate", model__vocabulary=file)
    assert "model.vocabulary was" in changes(json.dumps(ab), json.dumps(changed))
    assert described("generate", model__vocabulary=["a", "b"], model__temperature=0.5, model__seed=1) == ab
    source = {"model__source_vocabulary": ["a"]}
    assert described("seq2seq", **source) != described("seq2seq")
    assert described("seq2seq", **source, model__target_vocabulary=["1", "2"], model__start="1") == (
        described("seq2seq", **source)
    )


def test_what_shapes_a_text_is_among_the_rules_of_its_checkpoint() -> None:
    def rules(task: str, **keys: Any) -> str:
        return rules_description(Config.model_validate(tree(task, **keys)))

    plain = rules("generate")
    for keys, said in (
        ({"model__seed": 8}, "model.seed was 0, is 8"),
        ({"model__max_length": 9}, "model.max_length was 400, is 9"),
        ({"output__emit": "every_item"}, 'output.emit was "every_event", is "every_item"'),
    ):
        assert changes(plain, rules("generate", **keys)) == said
    assert "emit" not in rules("score", model__vocabulary=None, model__start=None, input__features=["a"])

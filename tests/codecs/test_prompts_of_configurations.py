"""From configurations to the prompts that the decoder reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.codecs.test_codecs import LAYOUT, batch_of, flags
from tests.config.test_tasks import tree
from worker.assembly.prompts import fields_beside_text, prompt_fields
from worker.codecs.decoding import open_decoder
from worker.config.sections import Config
from worker.config.vocabularies import read_vocabularies
from worker.records.events import Events
from worker.records.prompts import Finish


def decode(task: str, values: list[Any], **keys: Any) -> Events:
    config = Config.model_validate(tree(task, **keys))
    asked = prompt_fields(config, read_vocabularies(config), 3)
    decoder = open_decoder(config.input.format, fields_beside_text(config), LAYOUT, asked)
    return decoder.decode(batch_of([json.dumps(value).encode() for value in values]))


def test_task_generate() -> None:
    keys = {"model__unknown": "skip", "model__max_length": 9, "model__temperature": 0.7, "sequence__end": "last"}
    events = decode("generate", [{"text": "axb5", "last": True}, {"length": 2, "temperature": 0}], **keys)
    assert events.prompts is not None
    first, second = events.prompts
    assert first is not None
    assert second is not None
    assert (first.items.tolist(), first.length, first.temperature) == ([0, 1, 2], 9, 0.7)
    assert (second.items.tolist(), second.length, second.temperature) == ([], 2, 0)
    assert (first.finish, second.finish) == (Finish.MAX_LENGTH, Finish.LENGTH)
    assert flags(events.ends) == [True, False]


@pytest.mark.parametrize(("value", "error"), [({"tokens": [3]}, "unknown_token"), ({"text": "a"}, "bad_text")])
def test_task_seq2seq_without_a_vocabulary(value: Any, error: str) -> None:
    events = decode("seq2seq", [{"tokens": [2], "end": True}, value])
    assert [each.error for each in events.refusals] == [error]
    assert events.prompts is not None
    (read,) = events.prompts
    assert read is not None
    assert (read.items.tolist(), read.length, read.temperature) == ([2], 400, 0.0)


def test_task_seq2seq_with_vectors() -> None:
    config = Config.model_validate(tree("seq2seq", input__features="x"))
    asked = prompt_fields(config, read_vocabularies(config), 3)
    assert (asked.task, asked.below, asked.vocabulary) == ("seq2seq", 0, None)

"""Vocabularies: lists and files in, the items and their ids or the exact line of the refusal out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.config.test_config import load
from tests.config.test_tasks import tree
from tests.depth import examples
from worker.config.sections import Config
from worker.config.vocabularies import Vocabularies, check_sizes, read_vocabularies
from worker.errors import ConfigError
from worker.records.texts import NO_STOP
from worker.records.vocabulary import REFUSE, SKIP


def read(task: str, **keys: Any) -> Vocabularies:
    return read_vocabularies(Config.model_validate(tree(task, **keys)))


def items_of(file: Path, content: bytes) -> tuple[str, ...]:
    file.write_bytes(content)
    source = read("generate", model__vocabulary=file).source
    assert source is not None
    return source.items


def refused(task: str, **keys: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(task, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "items"),
    [
        (b"a\nb\n", ("a", "b")),
        (b"a\nb", ("a", "b")),
        (b" \na\n\t\n", (" ", "a", "\t")),
        (b"a\r\nb\r\n", ("a", "b")),
        (b"a\r\nb", ("a", "b")),
        (b"\xef\xbb\xbfa\nb\n", ("a", "b")),
        ("é\n🙂\n\u2028\n\x0b\n\x85\n".encode(), ("é", "🙂", "\u2028", "\x0b", "\x85")),
        (b"the\ndoor\n[\n", ("the", "door", "[")),
        (b"[\n]\n", ("[", "]")),
        (b"0\n1\n", ("0", "1")),
    ],
)
def test_a_text_file_has_an_item_per_line_as_it_stands(tmp_path: Path, content: bytes, items: tuple[str, ...]) -> None:
    assert items_of(tmp_path / "items.txt", content) == items
    assert items_of(tmp_path / "vocabulary", content) == items


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, unique=True),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_any_characters_but_line_breaks_are_read_back(tmp_path: Path, items: list[str], end: str, last: bool) -> None:
    """After a byte order mark, which would otherwise hide one among the items."""
    content = "\ufeff" + end.join(items) + (end if last else "")
    assert items_of(tmp_path / "items.txt", content.encode()) == tuple(items)


@pytest.mark.parametrize("name", ["items.json", "ITEMS.JSON"])
def test_a_list_in_json_may_hold_line_breaks(tmp_path: Path, name: str) -> None:
    items = ["a", "\n", "\r", " ", '"', "🙂"]
    assert items_of(tmp_path / name, json.dumps(items, indent=1).encode()) == tuple(items)
    assert items_of(tmp_path / name, b"\xef\xbb\xbf" + json.dumps(items, ensure_ascii=False).encode()) == tuple(items)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("i.txt", b"", "is empty; it holds an item per line"),
        ("i.txt", b"\n", ": line 1 is empty; delete it"),
        (
            "i.txt",
            b"a\n\nb\n",
            ": line 2 is empty; delete it; where a line break is an item, write a list in a file .j",
        ),
        ("i.txt", b"a\r\n\r\n", ": line 2 is empty; delete it"),
        ("i.txt", b"a\nb\n\n", ": line 3 is empty; delete it"),
        ("i.txt", b"a\n\xe9\n", "is not UTF-8 (line 2, byte 2); save it as UTF-8"),
        ("i.json", b'["a", "\xe9"]', "is not UTF-8 (line 1, byte 7); save it as UTF-8"),
        ("i.json", b'["a",\n"b"', "is not JSON (line 2: Expecting ',' delimiter)"),
        ("i.json", b"[" * 100_000, "is not JSON (it can't be read)"),
        ("i.json", b'{"a": 0}', "is not a list; write the items in the order of their ids"),
        ("i.json", b'["a", 5]', ": item 1 (the first is 0) is not text; put it in quotes"),
        ("i.json", b'["\\ud800"]', ": item 0 (the first is 0) has half of a surrogate pair, not a character"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = refused("generate", model__vocabulary=file)
    assert found.startswith(f"model.vocabulary: '{file}'")
    assert line in found


@pytest.mark.parametrize(
    ("name", "content", "start", "end"),
    [
        ("i.txt", b"a\nb\na\n", "the vocabulary has the item 'a' twice: 0 and 2", ""),
        ("i.txt", b"the\nred door\n", "item 1 of the vocabulary, 'red door', holds white space", ""),
        ("i.txt", b'["a", "b"]\n', "item 0 of the vocabulary", "; a JSON list needs a file name that ends in .json"),
        ("i.json", b"[]", "the vocabulary has no items", ""),
        ("i.json", b'["a", ""]', "item 1 of the vocabulary is empty", ""),
    ],
)
def test_items_that_make_no_vocabulary(tmp_path: Path, name: str, content: bytes, start: str, end: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = refused("generate", model__vocabulary=file)
    assert found.startswith(f"model.vocabulary: {start}")
    assert found.endswith(f" of '{file}'{end}")
    assert found.isprintable()


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    for file, why in ((tmp_path / "none.txt", "No such file or directory"), (tmp_path, "Is a directory")):
        assert refused("generate", model__vocabulary=file) == f"model.vocabulary: '{file}' can't be read: {why}"
        assert refused("seq2seq", model__source_vocabulary=file).startswith(f"model.source_vocabulary: '{file}' can't")


def test_the_items_of_other_keys(tmp_path: Path) -> None:
    """As a file says them: an item that looks like a number is the item where there is a vocabulary."""
    yaml = """
input: {topic: asked}
output: {topic: said}
model: {path: m.keras, task: generate, vocabulary: [a, "5", "\\n", " "], stop: STOP, unknown: " "}
"""
    for written, number in (('"\\n"', 2), ("5", 1), ('"5"', 1), ("a", 0), ("' '", 3)):
        found = read_vocabularies(load(tmp_path, yaml.replace("STOP", written)))
        assert (found.stop, found.unknown, found.start) == (number, 3, None)
        assert found.source is found.target
    found = read_vocabularies(load(tmp_path, yaml.replace("STOP", '"${S}"'), S="5"))
    assert found.stop == 1
    assert (read("generate").stop, read("generate").unknown) == (NO_STOP, REFUSE)
    assert read("generate", model__unknown="skip").unknown == SKIP


def test_ids_where_there_is_no_vocabulary(tmp_path: Path) -> None:
    found = read("seq2seq", model__start=2, model__stop="3", model__source_vocabulary=["the", "door"])
    assert (found.start, found.stop, found.target) == (2, 3, None)
    assert found.source is not None
    assert found.source.items == ("the", "door")
    both = read("seq2seq", model__start="<s>", model__stop="</s>", model__target_vocabulary=["<s>", "la", "</s>"])
    assert (both.start, both.stop, both.source) == (0, 2, None)


@pytest.mark.parametrize(
    ("task", "keys", "line"),
    [
        ("generate", {"model__stop": "x"}, "model.stop: 'x' is not an item of model.vocabulary"),
        ("generate", {"model__stop": "\n"}, "model.stop: '\\n' is not an item of model.vocabulary"),
        ("generate", {"model__stop": 1}, "model.stop: '1' is not an item of model.vocabulary; write the item, not its"),
        (
            "generate",
            {"model__unknown": "?"},
            "model.unknown: '?' is not an item of model.vocabulary; write refuse, sk",
        ),
        ("seq2seq", {"model__start": "<s>"}, "model.start: '<s>' is an item, and there is no model.target_vocabulary;"),
        (
            "seq2seq",
            {"model__target_vocabulary": ["a"], "model__start": "b"},
            "model.start: 'b' is not an item of model.target_vocabulary",
        ),
        ("seq2seq", {"model__unknown": "?"}, "model.unknown: is for text, and there is no model.source_vocabulary;"),
        ("generate", {"model__vocabulary": ["a b", "c"]}, "model.vocabulary: item 0 of the vocabulary, 'a b', holds"),
        ("generate", {"model__stop": "x" * 4000}, f"model.stop: '{'x' * 59}…' is not an item of model.vocabulary"),
    ],
)
def test_items_that_the_vocabulary_does_not_have(task: str, keys: dict[str, Any], line: str) -> None:
    assert refused(task, **keys).startswith(line)


def test_a_vocabulary_is_as_large_as_the_models() -> None:
    write, translate = Config.model_validate(tree("generate")), Config.model_validate(tree("seq2seq", model__stop=7))
    check_sizes(write, read_vocabularies(write), 3, 3)
    check_sizes(translate, read_vocabularies(translate), None, 8)
    vectors = Config.model_validate(tree("seq2seq", input__features="x"))
    check_sizes(vectors, read_vocabularies(vectors), 5, 2)
    reads = Config.model_validate(tree("seq2seq", model__source_vocabulary=["a", "b"]))
    for config, source, target, line in (
        (write, 64, 64, "model.vocabulary: 3 items, but the model has 64 outputs"),
        (translate, None, 7, "model.stop: 7 is not an id of the model, whose ids are 0 to 6"),
        (reads, 5, 2, "model.source_vocabulary: 2 items, but the model has 5 input ids"),
        (reads, None, 2, "model.source_vocabulary: the model reads vectors, not items; name their input.features"),
    ):
        with pytest.raises(ConfigError) as caught:
            check_sizes(config, read_vocabularies(config), source, target)
        assert str(caught.value) == line
